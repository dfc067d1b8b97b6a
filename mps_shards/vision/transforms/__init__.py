"""Transforms for classification and segmentation, and adapters for the transforms of other libraries."""
