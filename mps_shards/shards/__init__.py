"""What a shard set is: samples, their names, the tar they lie in, the manifest and the index.

Monopoly: the disk format. Pure values and functions over bytes; no I/O, no torch. No module keeps anything that
changes, so all of it may be called from any thread, with the GIL or without.
May import: errors.
"""
