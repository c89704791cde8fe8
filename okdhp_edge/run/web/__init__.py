"""Web page of a run with live image, statistics and controls; metrics for monitoring."""
