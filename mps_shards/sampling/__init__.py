"""The sample at each position of an epoch: order, mixing, ranks, and the cursor for resuming.

Pure functions of counts, seed and epoch. This package uses NumPy only and never reads or writes a file.
"""
