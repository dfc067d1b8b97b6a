"""Shard sets -> shard sets: scan, verify, repair, adopt, cut anew; and back to files.

Monopoly: touching finished sets. Works on bytes: no torch, and no images, but where decoding is asked for.
May import: pack (how shards are planned and named), vision (its torch-free files), shards, storage, errors, metrics.
"""
