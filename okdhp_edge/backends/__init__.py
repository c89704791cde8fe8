"""Inference backends: one interface, one module per runtime, one registry."""
