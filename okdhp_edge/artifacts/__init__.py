"""The files that stages exchange: cards, where models lie, measured results."""
