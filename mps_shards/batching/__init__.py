"""Assembly of samples into batches in host memory, with worker threads and host buffers.

Only this package starts the threads that decode. The function that makes samples is passed to them as an argument.
"""
