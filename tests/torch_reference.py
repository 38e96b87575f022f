"""The golden cases as PyTorch computes them, one sequence at a time and so without padding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from family_folders import CLASSES
from golden_cases import PROMPT_LENGTH, GoldenCase
from sentence_transformers import SentenceTransformer, SparseEncoder


def run_torch(
    case: GoldenCase, folder: Path, dtype: torch.dtype, device: str = "cpu"
) -> npt.NDArray[np.float64]:
    """What `converted_cases.run_case` gives, by transformers or sentence-transformers."""
    with torch.inference_mode():
        if case.output in ("embedding", "sparse"):
            rows = _run_sentence_transformers(case, folder, dtype, device)
        else:
            rows = _run_transformers(case, folder, dtype, device)
        result = torch.cat(list(rows))
        if case.output == "vocabulary":
            result = result[torch.from_numpy(case.chosen).long().to(device)]
        values: npt.NDArray[np.float64] = result.double().cpu().numpy()
        return values


def load_sentence_transformer(
    folder: Path, dtype: torch.dtype, device: str = "cpu", kind: type = SentenceTransformer
) -> Any:
    """A model of sentence-transformers, computing in `dtype`."""
    return kind(str(folder), device=device, local_files_only=True).to(dtype).eval()


def _run_transformers(
    case: GoldenCase, folder: Path, dtype: torch.dtype, device: str
) -> Iterator[torch.Tensor]:
    config = transformers.AutoConfig.from_pretrained(folder)
    name = type(config).__name__.removesuffix("Config") + CLASSES[case.task]
    model = getattr(transformers, name).from_pretrained(folder, dtype=dtype)
    # Some parameters stay in float32 when they are loaded (DeBERTa's q_bias).
    model = model.to(device, dtype).eval()
    if dtype == torch.float64:
        _keep_norms_in_float64(model)
    for inputs in _inputs(case, device):
        outputs = model(**inputs)
        if case.task is None:
            yield outputs.last_hidden_state[0]
        elif case.task == "question":
            yield torch.stack([outputs.start_logits[0], outputs.end_logits[0]], dim=-1)
        else:
            yield outputs.logits if case.task == "sequence" else outputs.logits[0]


def _run_sentence_transformers(
    case: GoldenCase, folder: Path, dtype: torch.dtype, device: str
) -> Iterator[torch.Tensor]:
    kind = SparseEncoder if case.task == "sparse" else SentenceTransformer
    model = load_sentence_transformer(folder, dtype, device, kind)
    prompt = {} if case.pooling_starts is None else {"prompt_length": PROMPT_LENGTH}
    for inputs in _inputs(case, device):
        yield model({**inputs, **prompt})["sentence_embedding"]


def _keep_norms_in_float64(model: torch.nn.Module) -> None:
    """DeBERTa's first version computes its norms in float32, whatever it is given."""
    for module in model.modules():
        for name, child in list(module.named_children()):
            if type(child).__name__ == "DebertaLayerNorm":
                norm = torch.nn.LayerNorm(len(child.weight), child.variance_epsilon)
                norm.weight, norm.bias = child.weight, child.bias
                setattr(module, name, norm)


def _inputs(case: GoldenCase, device: str) -> Iterator[dict[str, Any]]:
    """Each sequence as a batch of one."""
    for ids, types in zip(*case.inputs(), strict=True):
        inputs = {
            "input_ids": torch.from_numpy(ids).long()[None],
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        }
        if case.token_types:
            inputs["token_type_ids"] = torch.from_numpy(types).long()[None]
        yield {name: tensor.to(device) for name, tensor in inputs.items()}
