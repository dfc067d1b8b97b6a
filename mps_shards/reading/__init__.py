"""Reading of the samples of one epoch from shards: sources of samples, making of samples, handling of bad samples.

Only this package uses webdataset's readers.
"""
