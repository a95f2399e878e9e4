"""Benchmarks: speed and memory of what the package does, and what reliability costs."""
