"""Decoding, encoding and checks of images and label maps, and the transforms that make training input from them."""
