"""Evaluation: PCK, PCKh, OKS, COCO AP, and an HTML report of a model's errors."""
