"""Samples -> batches in host memory: worker threads, host buffers and the assembly of batches.

Only this package starts the threads that decode. How a sample is made is given to it as a function.
"""
