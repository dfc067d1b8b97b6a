"""Transfer of batches to devices: the transfer queue, its engines, the start-up check, and the choice of device.

Only this package uses a device. It knows nothing about shards or images.
"""
