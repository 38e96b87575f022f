"""OpenVINO's CPU plugin."""

from __future__ import annotations

from peers import Array, Forward, Model, PaddedBatch
from peers.onnx_export import onnx_path


def make(model: Model, threads: int) -> Forward:
    """A request of a model compiled for latency, products in float32, nothing copied in or out."""
    return _make(model, threads, "f32")


def make_bfloat16(model: Model, threads: int) -> Forward:
    """The same with products in bfloat16."""
    return _make(model, threads, "bf16")


def _make(model: Model, threads: int, precision: str) -> Forward:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(str(onnx_path(model))),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned one-thread instances would all sit on the same core.
            "ENABLE_CPU_PINNING": threads > 1,
        },
    )
    request = compiled.create_infer_request()

    def forward(batch: PaddedBatch) -> Array:
        inputs = {"input_ids": batch.token_ids, "attention_mask": batch.attention_mask}
        states: Array = request.infer(inputs, share_inputs=True, share_outputs=True)[0]
        return states

    return forward
