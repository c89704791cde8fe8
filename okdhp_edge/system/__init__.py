"""System utilities: atomic file writes, hardware information, clocks and latency statistics."""
