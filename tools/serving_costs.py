"""The measured costs that simulations of a server run on, kept in a file.

The file makes a simulation the same everywhere; `measure` makes a new one.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from bench_setting import processor
from serving_simulation import MOST_PADDED, Costs

import vlt
from vlt.scheduling import CostModel, PaddedCosts

PATH = Path(__file__).with_name("serving_costs.json")
LENGTHS = (4, 8, 16, 32, 64, 128, 256, 384, 512)
BATCH_SIZES = (1, 2, 4, 8, 16, MOST_PADDED)


def measure(weights: Path, threads: int, seconds: float) -> Costs:
    """Time an encoder's packed batches and padded ones, and write the file."""
    with vlt.Encoder(weights, device="cpu", num_threads=threads) as encoder:
        costs = Costs(
            CostModel.measure(encoder),
            PaddedCosts.measure(encoder, LENGTHS, BATCH_SIZES, seconds),
        )
        setting = f"{encoder.num_layers} layers of {encoder.hidden_size}, {encoder.dtype}"
    rows = [[float(f"{value:.4g}") for value in row] for row in costs.padded.seconds.tolist()]
    packed = {
        name: float(f"{getattr(costs.packed, name):.4g}")
        for name in ("base", "per_token", "per_square")
    }
    content = {
        "model": setting,
        "machine": f"{processor()}, {threads} threads",
        "date": datetime.date.today().isoformat(),
        "packed": packed,
        "padded": {"lengths": LENGTHS, "batch_sizes": BATCH_SIZES, "seconds": rows},
    }
    PATH.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return costs


def load(path: Path = PATH) -> tuple[Costs, str]:
    """Costs, and in words what they were measured on."""
    content = json.loads(path.read_text(encoding="utf-8"))
    costs = Costs(CostModel(**content["packed"]), PaddedCosts(**content["padded"]))
    return costs, f"{content['model']}; {content['machine']}; {content['date']}"
