"""Ranges: what tensors hold on real crops, and which range each calibrator takes from that."""
