"""Requests that arrive one by one -> batches for one or several encoders, without HTTP.

`engine` queues sequences and lends them out in batches that a `policy` chooses, `worker` threads
run them, and `service` is what asyncio code calls: it tokenizes beside the encoder, waits, and
takes requests that nobody waits for any more out of the queue.
"""
