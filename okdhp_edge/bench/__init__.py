"""Benchmark a model on all available backends and precisions."""
