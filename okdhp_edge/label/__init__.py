"""Pictures in, COCO-format persons out: teachers label what nobody has labelled."""
