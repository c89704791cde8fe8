"""One model on every backend and precision present: accuracy, latency, size, load time."""
