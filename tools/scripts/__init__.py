"""Scripts for the demo, test images, pictures of the documentation, and long checks."""
