"""Actions: named functions with checked parameters that workflows run as steps, alone or as a graph."""
