"""Shard sets: opening, writing of index and manifest, scan, verify, repair, index, listing, unpacking. No torch."""
