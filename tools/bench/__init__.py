"""Benchmarks, one question a script: ``python -m tools.bench.images``."""
