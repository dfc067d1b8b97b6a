"""Who makes the shards: threads of this machine, a Ray cluster, or the tasks of an array job. One file each.

An engine is called with all tasks, the numbers of those that are to be done, and whom to tell of progress. It returns
how many had been done before, or raises the first failure when nothing of it runs any more. Every engine calls
`make_shard`, so the bytes are the same from all of them.
"""
