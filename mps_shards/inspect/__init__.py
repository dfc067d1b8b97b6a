"""Views of shard sets and machines: survey, statistics, contact sheets, charts, reports, benchmarks and diagnoses.

This package uses the public functions of packing and reading.
"""
