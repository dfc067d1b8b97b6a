"""Computation of the sample at each position of an epoch: order, mixing, ranks, and the cursor for resuming.

The results are pure functions of counts, seed and epoch. This package uses only NumPy, and never reads or writes a
file.
"""
