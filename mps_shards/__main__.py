"""``python -m mps_shards`` is the command line."""

from mps_shards.cli import main

main()
