"""The disk format: tar headers, key names, sample fields, manifest and index.

This package consists of values and pure functions over bytes, without input, output or torch. No module keeps state, so
every function may be called from any thread, with or without the GIL.
"""
