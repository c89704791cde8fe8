"""The domain: skeletons, poses, crops, heatmaps, metrics. numpy and OpenCV only."""
