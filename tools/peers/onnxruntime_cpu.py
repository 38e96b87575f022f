"""ONNX Runtime on the graph that its own transformer optimizer fuses, as it is or in int8."""

from __future__ import annotations

import json
from pathlib import Path

from peers import Array, Forward, Model, PaddedBatch
from peers.onnx_export import onnx_path


def make(model: Model, threads: int) -> Forward:
    """A session on the CPU with this many threads inside an operation."""
    return _open(fused_path(model), threads)


def make_int8(model: Model, threads: int) -> Forward:
    """The same in 8 bits: a scale for each output, inputs quantised as they come."""
    return _open(int8_path(model), threads)


def _open(path: Path, threads: int) -> Forward:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(batch: PaddedBatch) -> Array:
        inputs = {"input_ids": batch.token_ids, "attention_mask": batch.attention_mask}
        states: Array = session.run(None, inputs)[0]
        return states

    return forward


def int8_path(model: Model) -> Path:
    """The fused graph with weights of int8, as onnxruntime's own quantizer makes it."""
    path = model.cache / "int8.onnx"
    if not path.exists():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            str(fused_path(model)),
            str(path),
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    return path


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
