"""The real-time loop: frames in, poses and an honest report out."""
