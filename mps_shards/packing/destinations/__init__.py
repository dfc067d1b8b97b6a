"""OUT while it is being packed: a folder, or a prefix in a store. One file each, behind one contract.

Whatever lies in OUT is whole, at every moment, and no set looks finished before it is: the plan comes first, each
shard's completion record after the shard, the manifests last. All but the sets lies in ``OUT/.pack`` and then goes.
"""
