"""Loaders that are measured beside ours, one file per library, and the code that measures them.

A *trial* is a new process in which one *contestant* runs one *workload* and prints a JSON line (`trial`). `arena` runs
the trials in turn, so that changes in the speed of the machine affect all contestants. The data are made once
(`pictures`).
"""
