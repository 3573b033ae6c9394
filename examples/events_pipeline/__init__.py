"""An event pipeline: validate, store, update metrics."""
