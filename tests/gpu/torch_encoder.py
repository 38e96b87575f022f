"""The golden cases as PyTorch computes them on the GPU, one sequence at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from golden_cases import PROMPT_LENGTH, GoldenCase


def run_torch(case: GoldenCase, folder: Path, dtype: torch.dtype) -> npt.NDArray[np.float64]:
    """The states [T, H] by transformers, or the embeddings [S, D] by sentence-transformers."""
    with torch.inference_mode():
        run = _states if case.head is None else _embeddings
        values: npt.NDArray[np.float64] = run(case, folder, dtype).double().cpu().numpy()
        return values


def _states(case: GoldenCase, folder: Path, dtype: torch.dtype) -> torch.Tensor:
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel.from_pretrained(folder, dtype=dtype).cuda().eval()
    return torch.cat([model(**inputs).last_hidden_state[0] for inputs in _inputs(case)])


def _embeddings(case: GoldenCase, folder: Path, dtype: torch.dtype) -> torch.Tensor:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(
        str(folder), device="cuda", local_files_only=True
    )
    model.to(dtype).eval()
    prompt = {} if case.pooling_starts is None else {"prompt_length": PROMPT_LENGTH}
    rows = [model({**inputs, **prompt})["sentence_embedding"] for inputs in _inputs(case)]
    return torch.cat(rows)


def _inputs(case: GoldenCase) -> Iterator[dict[str, Any]]:
    """Each sequence as a batch of one."""
    for ids, types in zip(*case.inputs(), strict=True):
        yield {
            "input_ids": torch.from_numpy(ids).long()[None].cuda(),
            "token_type_ids": torch.from_numpy(types).long()[None].cuda(),
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long, device="cuda"),
        }
