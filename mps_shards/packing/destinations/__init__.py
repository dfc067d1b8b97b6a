"""Destinations of a pack, which are local folders or prefixes in an object store, behind the contract `Destination`."""
