"""Training scripts to copy: plain PyTorch with mps-shards, checkpoints, Ctrl-C and torchrun."""
