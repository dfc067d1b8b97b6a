"""Files and folders anywhere: one contract for local disks, object stores and what fsspec knows.

`folder.Folder` and `folder.WritableFolder` are the contract; `location.open_folder` and `location.locate` open what a
user named. `LocalFolder` (local_disk) and `StoreFolder` (store_folder, over the backends object_store and
fsspec_backend) implement it, and `CachedFolder` (file_cache) keeps whole files of another folder. `read_ahead` fetches
ranges before they are needed. `ordered_map` runs a function on threads, and `cores` says how many.

Only this package touches disks and stores, except that packing lists the source folders of images itself.
It knows nothing of samples, manifests or tars, and imports only `errors`.
"""
