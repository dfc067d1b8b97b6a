"""Benchmarks. Each script answers one question: ``python -m tools.bench.images``."""
