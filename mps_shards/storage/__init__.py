"""Files and folders anywhere: one contract for local disks, object stores and fsspec's file systems.

`folder.Folder` and `folder.WritableFolder` are the contract; `location.open_folder` and `location.locate` open the
folders that a user names. `LocalFolder` (local_disk) and `StoreFolder` (store_folder, with the backends object_store
and fsspec_backend) implement the contract, and `CachedFolder` (file_cache) caches whole files of another folder.
`disk_sync` makes files and folders survive a power cut, and `file_batch` many files at once.
`read_ahead` fetches ranges before they are needed. `ordered_map` runs a function on threads; `cores` counts cores.

Only this package touches disks and stores, except that packing lists the source folders of images itself.
The package knows nothing about samples, manifests or tars, and imports only `errors`.
"""
