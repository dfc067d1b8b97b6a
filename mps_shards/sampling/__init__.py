"""Which sample stands at which position of an epoch: order, mixing, ranks, and the cursor that resumes.

Pure functions of counts, seed and epoch. This package uses NumPy only and never reads or writes a file.
"""
