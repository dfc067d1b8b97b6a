"""Images and label maps: decode, encode, check, and the transforms that turn them into training input."""
