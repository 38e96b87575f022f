"""Traces of requests and the allocators that replay them; see tools/bench_allocator.py."""
