"""Figures the code is held to: `python -m benchmarks`, or `make bench`."""
