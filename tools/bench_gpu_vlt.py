"""vlt on the device, ready for a cell: from arrays there to states there, and from lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peers.cuda import Ready, Work
from peers.cuda.packed_bert import starts_of

import vlt


class RunningVlt:
    """An encoder with the weights of a Hugging Face folder."""

    def __init__(self, folder: Path, dtype: str, disable_graphs: bool = False) -> None:
        weights = folder / "weights.bin"
        vlt.convert(folder, weights, dtype="keep")
        self._encoder = vlt.Encoder(
            weights, device="cuda", dtype=dtype, disable_graphs=disable_graphs
        )
        self.kernels = self._encoder.kernels

    def on_device(self, work: Work) -> Ready:
        """Ids and starts on the device, states [T, H] in the weights' precision there."""
        starts = starts_of(work)
        out = torch.empty(
            len(work.token_ids),
            self._encoder.hidden_size,
            dtype=work.bert.dtype,
            device=work.token_ids.device,
        )
        self._encoder.reserve(len(work.token_ids), len(work.lengths), work.longest)

        def run() -> Any:
            self._encoder.run_packed(
                work.token_ids,
                starts,
                output="hidden",
                out=out,
                stream=torch.cuda.current_stream().cuda_stream,
            )
            return out

        return Ready(run, packed=lambda states: states)

    def from_lists(self, work: Work) -> Callable[[], Any]:
        """Lists of ids on the host, float32 numpy states there."""
        lists = [ids.tolist() for ids in work.token_ids.split(list(work.lengths))]
        return lambda: self._encoder.run(lists)

    def close(self) -> None:
        self._encoder.close()
