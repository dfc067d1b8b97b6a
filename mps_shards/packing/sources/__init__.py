"""What `pack` reads. One file per kind of source or layout, behind the contract in `source.py`.

A layout of files is a function from a `FileTree` to a `Listing`; `detection` names them all. A source that is not a
tree of files implements `Source` itself; `opening` names them all.
"""
