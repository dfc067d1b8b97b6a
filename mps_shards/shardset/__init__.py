"""A shard set on a storage: open, seal, scan, verify, repair, index, list and unpack it. No torch."""
