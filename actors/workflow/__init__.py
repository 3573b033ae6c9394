"""The workflow engine, which is an actor."""
