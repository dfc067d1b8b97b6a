"""Scripts of the project: the demo, test images, and long checks."""
