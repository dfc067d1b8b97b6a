"""What tests and benchmarks share: a fake device, and object stores on this machine."""
