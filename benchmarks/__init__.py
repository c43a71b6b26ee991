"""Speed against other implementations, measured here and now: `python -m benchmarks`."""
