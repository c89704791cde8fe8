"""Persons from frame to frame: one, followed by the joints, or many, by a detector's boxes."""
