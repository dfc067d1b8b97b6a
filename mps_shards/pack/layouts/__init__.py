"""Folders of files -> a listing: which images there are, of which class, in which split. One file a layout."""
