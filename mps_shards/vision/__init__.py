"""Raw samples -> tensors: decoding, keyed randomness, and the transforms of classification and segmentation.

Monopoly: PIL, simplejpeg and torchvision. `decode` yields numpy arrays and loads no torch, so that tools may decode
without it. May import: shards, storage, errors, metrics.
"""
