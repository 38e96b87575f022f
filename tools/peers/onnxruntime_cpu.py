"""ONNX Runtime on the graph that its own transformer optimizer fuses."""

from __future__ import annotations

import json
from pathlib import Path

from peers import Array, Forward, Model, PaddedBatch
from peers.onnx_export import onnx_path


def make(model: Model, threads: int) -> Forward:
    """A session on the CPU with this many threads inside an operation."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(fused_path(model)), options, providers=["CPUExecutionProvider"]
    )

    def forward(batch: PaddedBatch) -> Array:
        inputs = {"input_ids": batch.token_ids, "attention_mask": batch.attention_mask}
        states: Array = session.run(None, inputs)[0]
        return states

    return forward


def fused_path(model: Model) -> Path:
    """The fused graph; refuses one in which the attention was not fused."""
    path = model.cache / "fused.onnx"
    if path.exists():
        return path
    from onnxruntime.transformers import optimizer

    config = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    fused = optimizer.optimize_model(
        str(onnx_path(model)),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
    )
    counts = fused.get_fused_operator_statistics()
    if counts["Attention"] != config["num_hidden_layers"]:
        raise RuntimeError(
            f"onnxruntime fused {counts['Attention']} attentions of "
            f"{config['num_hidden_layers']}: this would not be the peer at its best"
        )
    fused.save_model_to_file(str(path))
    return path
