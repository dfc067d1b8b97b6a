"""The place that a pack writes to: a local folder or a prefix in a store, one file for each, behind one contract."""
