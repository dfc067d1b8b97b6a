"""Where bytes lie: folders and files of this machine.

Monopoly: touching disks and stores (packing lists source folders itself, since a layout is about folders).
Knows nothing of samples, manifests or tars. May import: errors.
"""
