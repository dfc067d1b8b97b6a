"""The executors that make the shards: threads of this machine, or a Ray cluster. Each has a file of its own.

An executor is a function of all tasks, the numbers of the tasks to run, and a progress callback. It returns how many
of these shards were finished before, or raises the first failure after all its tasks have stopped. All executors call
`make_shard`, so they write the same bytes. A task of an array job runs its share of the shards on local threads.
"""
