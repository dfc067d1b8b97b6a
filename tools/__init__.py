"""Scripts of the project that are not installed: benchmarks, examples, fuzzing, long checks and test images."""
