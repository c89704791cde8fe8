"""Annotated people: readers of the field's formats, and people drawn from nothing."""
