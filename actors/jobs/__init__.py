"""Jobs: work that is started under an id, in an old and a new way side by side."""
