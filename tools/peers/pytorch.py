"""PyTorch through transformers, with scaled_dot_product_attention."""

from __future__ import annotations

from peers import Array, Forward, Model, PaddedBatch


def make(model: Model, threads: int) -> Forward:
    """The eager model; `threads` is set for the whole process."""
    return _make(model, threads, "float32")


def make_bfloat16(model: Model, threads: int) -> Forward:
    """The same with weights and activations of bfloat16."""
    return _make(model, threads, "bfloat16")


def _make(model: Model, threads: int, dtype: str) -> Forward:
    import torch
    from transformers import BertModel

    torch.set_num_threads(threads)
    encoder = BertModel.from_pretrained(
        model.folder,
        attn_implementation="sdpa",
        add_pooling_layer=False,
        dtype=getattr(torch, dtype),
    ).eval()

    def forward(batch: PaddedBatch) -> Array:
        with torch.inference_mode():
            states: Array = (
                encoder(
                    input_ids=torch.from_numpy(batch.token_ids),
                    attention_mask=torch.from_numpy(batch.attention_mask),
                )
                .last_hidden_state.float()
                .numpy()
            )
        return states

    return forward
