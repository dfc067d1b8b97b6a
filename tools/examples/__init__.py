"""Training as one writes it with mps-shards: plain PyTorch, checkpoints, Ctrl-C, torchrun. To be copied."""
