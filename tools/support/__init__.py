"""Code that tests and tools share: a fake device, object stores on this machine, and small images."""
