"""Core types and operations: skeletons, poses, crops, heatmaps, metrics. numpy and OpenCV only."""
