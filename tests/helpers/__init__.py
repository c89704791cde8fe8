"""Tiny real models and fakes for the tests."""
