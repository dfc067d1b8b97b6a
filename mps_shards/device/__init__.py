"""Transfer of batches to devices: the transfer queue, its engines, the start-up check, and the choice of the device.

Only this package uses devices. It knows nothing about shards.
"""
