"""torch.compile and CUDA graphs as the peers use them.

A forward pass is compiled one layer at a time and captured as one graph. All layers have the same
shapes, so one compilation serves them all, in seconds where compiling the unrolled model takes up
to a minute. The kernels are the same: a layer begins with a matrix product and ends with a
normalisation, which nothing is fused across. One replay of a whole graph costs no more than what
mode="reduce-overhead" does, which captures a graph too but checks and copies inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch._inductor.config

WARM_UP_RUNS = 3

# The compiler's cache may have been filled by many processes that shared the GPU, so what it timed
# there is not kept. A kernel's configuration is chosen anew in each process; products are never
# padded, which is chosen by time too and cannot gain where all inner sizes are multiples of 8.
torch._inductor.config.autotune_local_cache = False
torch._inductor.config.shape_padding = False


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled for the very shapes that it will be called with.

    Raises where it cannot be compiled in one piece, rather than run slower.
    """
    result: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True)
    return result


class Replay:
    """Replays a CUDA graph, and keeps its tensors: the graph knows them by address only."""

    def __init__(self, graph: torch.cuda.CUDAGraph, run: Callable[[], Any], result: Any) -> None:
        self._graph = graph
        self._run = run
        self._result = result

    def __call__(self) -> Any:
        self._graph.replay()
        return self._result


def captured(run: Callable[[], Any]) -> Replay:
    """A function that replays `run` from a CUDA graph; it returns the same tensor each time."""
    stream = _warm_up_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_RUNS):  # compiles, and lets libraries take their workspaces
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return Replay(graph, run, result)


@cache
def _warm_up_stream() -> torch.cuda.Stream:
    """One for all captures.

    PyTorch hands out 32 streams in turn. Once a process had used them up, cuBLAS failed in the next
    graph with an unspecified launch failure, PyTorch alone in the process.
    """
    return torch.cuda.Stream()
