"""Adapters that call the transforms of other libraries; one file for each library."""
