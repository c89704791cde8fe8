"""The run in a browser: live picture, numbers and controls; metrics for monitoring."""
