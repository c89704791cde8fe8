"""Frame sources, one module per kind."""
