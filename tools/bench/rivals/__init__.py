"""Loaders that are measured beside ours, one library a file, and the arena where they meet.

A *trial* is a fresh process in which one *contestant* runs one *workload* and prints a JSON line (`trial`). The arena
starts trials in turn, so that a machine that drifts drifts for all of them (`arena`), on data made once (`pictures`).
"""
