"""Batches -> devices: the transfer queue, its engines, the start-up check, and the choice of device.

Only this package touches a device. The package knows nothing of shards or images.
"""
