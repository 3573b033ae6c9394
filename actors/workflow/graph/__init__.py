"""The flow of a workflow, read from its source: as data, as Mermaid text, as a picture."""
