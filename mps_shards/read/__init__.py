"""Shards -> raw samples: whose share it is, in which order, from which byte range.

Monopoly: the order of samples, and webdataset's readers. No images, no torch tensors, no threads.
May import: shards, storage, errors, metrics.
"""
