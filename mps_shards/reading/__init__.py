"""Reading of the samples of an epoch from shards, decoding and transforming them, and handling of bad samples.

Only this package uses webdataset's readers.
"""
