"""What a shard set is: samples, their names, the tar they lie in, the manifest and the index.

Monopoly: the disk format. Pure values and functions over bytes; no I/O, no torch.
May import: errors.
"""
