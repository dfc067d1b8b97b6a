"""The executors that make the shards: local threads, a Ray cluster, or the tasks of an array job. One file for each.

An executor is a function of all tasks, the numbers of the tasks to run, and a progress callback. It returns how many
of these shards were finished before, or raises the first failure once none of its tasks runs any more. All executors
call `make_shard`, so they write the same bytes.
"""
