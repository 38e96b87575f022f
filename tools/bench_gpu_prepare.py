"""Compile what the peers of all cells need, in parallel, so that measuring finds it in the cache.

Compiling keeps one core busy and the GPU idle; measuring wants the GPU for itself. Each process
makes the peers of one cell after the other, on random weights like those that are measured.
"""

from __future__ import annotations

import gc
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from bench_gpu_cells import Cell, load_bert, make_work, write_checkpoint
from peers.cuda import PEERS, load


def prepare(cells: list[Cell], names: list[str], dtype: str, cache: Path, count: int) -> list[str]:
    """Make all peers that compile, with `count` processes; what failed, in words."""
    compiling = [name for name in names if PEERS[name].compiles]
    for model in dict.fromkeys(cell.model for cell in cells):
        write_checkpoint(model, dtype, cache)
    # The deepest model takes longest where a peer unrolls it: it goes first.
    tasks = [(name, cell) for cell in reversed(cells) for name in compiling]
    problems = []
    with ProcessPoolExecutor(
        min(count, len(tasks)) or 1, get_context("spawn"), initializer=_initialize
    ) as pool:
        futures = {pool.submit(_make, *task, dtype, cache): task for task in tasks}
        for future in as_completed(futures):
            name, cell = futures[future]
            error = future.exception()
            if error is None:
                print(f"{cell} {name}: {future.result():.1f} s", flush=True)
            else:
                problems.append(f"{cell} {name}: {type(error).__name__}: {error}")
    return problems


def _initialize() -> None:
    """There are as many processes as cores: none needs helpers."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def _make(name: str, cell: Cell, dtype: str, cache: Path) -> float:
    """Make and run one peer; the seconds that took."""
    import torch

    start = time.perf_counter()
    bert = load_bert(write_checkpoint(cell.model, dtype, cache), dtype)
    ready = load(name)(make_work(cell, bert))
    ready.run()
    torch.cuda.synchronize()
    del ready, bert
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()
    return time.perf_counter() - start
