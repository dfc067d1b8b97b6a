"""Where bytes lie: folders and files of this machine, objects in stores, and copies of them in a cache.

One contract (`contract.Backend`), one file a backend: `local`, `remote` (obstore: S3, Google Cloud, Azure, HTTP) and
`other` (fsspec). `folder` adds patience to them and never mixes two objects; `ahead` fetches before need;
`store` writes where others may write, too.

Monopoly: touching disks and stores (packing lists source folders itself, since a layout is about folders).
Knows nothing of samples, manifests or tars. May import: errors.
"""
