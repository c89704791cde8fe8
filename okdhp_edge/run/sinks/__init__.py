"""Outputs for poses and annotated images, one module per kind."""
