"""Automatic labelling: from images to COCO persons, with pose models as teachers."""
