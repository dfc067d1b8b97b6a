"""Shards -> the samples of one epoch: sources of samples, how a sample is made, and what happens to bad samples.

webdataset's readers are used here and nowhere else.
"""
