"""Accuracy of predictions: PCK, PCKh, OKS, COCO's AP, and a page of a model's errors."""
