"""Transforms for classification and segmentation, each planned from the size of the image alone."""
