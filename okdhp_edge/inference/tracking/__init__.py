"""Tracking from frame to frame: one person by its joints, or many with a detector's boxes."""
