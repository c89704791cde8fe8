"""Pose data sets: loaders for the common formats, and synthetic people."""
