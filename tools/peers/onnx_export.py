"""The ONNX file that onnxruntime and OpenVINO read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peers import Model

INPUTS = ("input_ids", "attention_mask")


def onnx_path(model: Model) -> Path:
    """The checkpoint as ONNX with any batch size and length; exported on first use."""
    path = model.cache / "model.onnx"
    if not path.exists():
        model.cache.mkdir(parents=True, exist_ok=True)
        _export(model.folder, path)
    return path


def _export(folder: Path, path: Path) -> None:
    import torch
    from transformers import BertModel

    # Eager attention: its graph is the one whose fusion the runtimes know.
    encoder = BertModel.from_pretrained(
        folder, attn_implementation="eager", add_pooling_layer=False, dtype=torch.float32
    ).eval()

    class States(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.encoder(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state

    example = torch.ones(2, 8, dtype=torch.long)
    torch.onnx.export(
        States(),
        (example, example),
        str(path),
        input_names=list(INPUTS),
        output_names=["states"],
        dynamo=False,
        opset_version=17,
        dynamic_axes={name: {0: "batch", 1: "length"} for name in (*INPUTS, "states")},
    )
