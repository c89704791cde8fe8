"""Images in, persons out: crop, infer, decode, back to the image; detectors and tracking."""
