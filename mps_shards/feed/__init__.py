"""Samples -> batches on a device: worker threads, slots, and engines that move a slot to a device.

Monopoly: threads and devices. Knows nothing of shards or images: what a worker does for a sample is given to it.
May import: shards, storage, errors, metrics.
"""
