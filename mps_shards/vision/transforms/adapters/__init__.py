"""Transforms of other libraries, called as those libraries expect; one file for each library."""
