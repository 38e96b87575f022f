"""The GPU kernels at the sizes that models give them, each beside what PyTorch offers for it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from bench_gpu_protocol import protocol_lengths
from gpu import kernels
from gpu.batches import Batch, Plan, starts_of
from gpu.native import HOPPER_QUERY_TILES, MMA_QUERY_TILE, SHORT_LIMITS
from kernel_timing import Launch, num_input_sets
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

HIDDEN_SIZES = {"minilm-l6": 384, "bert-base": 768, "bert-large": 1024}
GEMM_ROWS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
HEADS = {
    "minilm-l6": ((12, 32),),
    "bert-base": ((12, 64),),
    "bert-large": ((16, 64),),
    "wide heads": ((16, 128),),
}
LENGTHS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)
ATTENTION_TOKENS = 65_536
ROW_TOKENS = (4096, 65_536, 262_144)
PLAN_SEQUENCES = (1, 512, 8192, 65_536)
ELEMENT_BYTES = 2


@dataclass(frozen=True)
class Case:
    """One piece of work and the ways to do it; names of peers do not begin with "vlt"."""

    kernel: str  # "up", "attention", "layernorm", …
    model: str
    sizes: dict[str, int]
    flops: float
    bytes: float  # that must at least be read and written
    num_sets: int
    launches: dict[str, Launch]
    notes: dict[str, str] = field(default_factory=dict)  # what figures mean; what cannot be had


def gemm_cases(
    models: list[str], dtype: torch.dtype, all_tiles: bool, rows: tuple[int, ...] = GEMM_ROWS
) -> Iterator[Case]:
    """Every product of the models at every number of rows.

    "vlt" has the epilogue of the model: nothing for qkv, GELU for up, a residual for output and
    down; "torch like" too, as far as cuBLAS has it; "vlt bias" and "torch" have the bias alone.
    With all_tiles there is "tile i" for each tile instead, with the model's epilogue.
    """
    for model in models:
        h = HIDDEN_SIZES[model]
        for product, n, k in (
            ("qkv", 3 * h, h),
            ("output", h, h),
            ("up", 4 * h, h),
            ("down", h, 4 * h),
        ):
            for m in rows:
                yield _gemm_case(model, product, m, n, k, dtype, all_tiles)


def _gemm_case(
    model: str, product: str, m: int, n: int, k: int, dtype: torch.dtype, all_tiles: bool
) -> Case:
    num_bytes = ELEMENT_BYTES * (m * k + n * k + m * n)
    num_sets = num_input_sets(num_bytes)
    a = _normal(num_sets, m, k, dtype=dtype)
    weight = _normal(num_sets, n, k, dtype=dtype, scale=k**-0.5)
    bias = torch.randn(n, device="cuda").to(dtype)
    bias32 = kernels.padded_bias(bias)
    out = torch.zeros(num_sets, m, n, device="cuda", dtype=dtype)
    kind = "hopper" if kernels.device_traits().hopper_kernels else "mma"
    activation = "gelu" if product == "up" else "identity"

    def real(i: int, tile: int = -1) -> None:
        residual = out[i] if product in ("output", "down") else None
        kernels.gemm(
            kind,
            a[i],
            weight[i],
            bias32,
            out[i],
            activation=activation,
            residual=residual,
            tile=tile,
        )

    def tiled(tile: int) -> Launch:
        return lambda i: real(i, tile)

    # What cuBLAS has of these epilogues: GELU by the hyperbolic tangent, a residual without a bias.
    def torch_like(i: int) -> torch.Tensor:
        if product in ("output", "down"):
            return out[i].addmm_(a[i], weight[i].t())
        if product == "up":
            return torch.ops.aten._addmm_activation(bias, a[i], weight[i].t(), use_gelu=True)
        return F.linear(a[i], weight[i], bias)

    launches: dict[str, Launch] = {
        "vlt": real,
        "vlt bias": lambda i: kernels.gemm(kind, a[i], weight[i], bias32, out[i]),
        "torch": lambda i: F.linear(a[i], weight[i], bias),
        "torch like": torch_like,
    }
    if all_tiles:
        launches = {f"tile {tile}": tiled(tile) for tile in range(kernels.num_hopper_tiles())}
    sizes = {"M": m, "N": n, "K": k}
    return Case(product, model, sizes, 2.0 * m * n * k, num_bytes, num_sets, launches)


def attention_cases(models: list[str], dtype: torch.dtype) -> Iterator[Case]:
    """Equal lengths, about 65,536 tokens in all.

    Peers: PyTorch's packed attention, and cuDNN's kernel, which takes equal lengths only.
    """
    for model in models:
        for heads, size in HEADS[model]:
            for length in LENGTHS:
                yield _attention_case(model, heads, size, length, dtype)


def _attention_case(model: str, heads: int, size: int, length: int, dtype: torch.dtype) -> Case:
    count = ATTENTION_TOKENS // length
    tokens, width, scale = count * length, heads * size, size**-0.5
    num_bytes = ELEMENT_BYTES * 4 * tokens * width
    num_sets = num_input_sets(num_bytes)
    qkv = _normal(num_sets, tokens, 3 * width, dtype=dtype)
    out = torch.zeros(num_sets, tokens, width, device="cuda", dtype=dtype)
    starts = torch.arange(count + 1, device="cuda", dtype=torch.int32) * length
    packed = qkv.view(num_sets, tokens, 3, heads, size)
    equal = qkv.view(num_sets, count, length, 3, heads, size).permute(3, 0, 1, 4, 2, 5)

    def own(kernel: str, query_tile: int) -> Launch:
        plan = Plan.of([length] * count, query_tile, kernels.DEVICE)
        return lambda i: kernels.attention(
            kernel, plan, qkv[i], out[i], num_heads=heads, head_size=size, scale=scale
        )

    def cudnn(i: int) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(*(part[i] for part in equal))

    launches: dict[str, Launch] = {}
    if length <= SHORT_LIMITS[-1]:
        launches["vlt short"] = own("short_mma", MMA_QUERY_TILE)
    else:
        launches["vlt mma"] = own("long_mma", MMA_QUERY_TILE)
        if kernels.device_traits().hopper_kernels and kernels.hopper_attention_fits(
            size, 3 * width, heads
        ):
            launches["vlt hopper"] = own("long_hopper", kernels.hopper_query_tile(size))
    peers: dict[str, Launch] = {
        "varlen": lambda i: varlen_attn(*packed[i].unbind(1), starts, starts, length, length),
        "cudnn": cudnn,
    }
    notes = {}
    for name, peer in peers.items():
        try:
            peer(0)
            launches[name] = peer
        except RuntimeError as error:  # no such kernel for this size: said, not hidden
            notes[name] = str(error).splitlines()[0]
    sizes = {"A": heads, "D": size, "L": length, "T": tokens}
    flops = 4.0 * tokens * length * width
    return Case("attention", model, sizes, flops, num_bytes, num_sets, launches, notes)


def padded_attention_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Batches of 16 as in ByteTransformer's paper, 12 heads of 64: what PyTorch does step by step.

    "eager" multiplies padded queries and keys, adds a mask, takes the softmax and multiplies by the
    values; padding them and taking the results out again is left out. "vlt" does all short and long
    sequences of the batch. Bytes and operations are those of the tokens.
    """
    for longest in (64, 128, 256, 512, 1024):
        yield _padded_attention_case(protocol_lengths(16, longest), 12, 64, dtype)


def _padded_attention_case(
    lengths: tuple[int, ...], heads: int, size: int, dtype: torch.dtype
) -> Case:
    tokens, longest, width, scale = sum(lengths), max(lengths), heads * size, size**-0.5
    num_bytes = ELEMENT_BYTES * 4 * tokens * width
    num_sets = num_input_sets(num_bytes)
    qkv = _normal(num_sets, tokens, 3 * width, dtype=dtype)
    out = torch.zeros(num_sets, tokens, width, device="cuda", dtype=dtype)
    q, k, v = (_normal(num_sets, len(lengths), heads, longest, size, dtype=dtype) for _ in "qkv")
    behind = torch.arange(longest, device="cuda") >= torch.tensor(lengths, device="cuda")[:, None]
    mask = torch.zeros(behind.shape, device="cuda", dtype=dtype)
    mask = mask.masked_fill(behind, torch.finfo(dtype).min)[:, None, None, :]
    hopper = kernels.device_traits().hopper_kernels
    query_tile = kernels.hopper_query_tile(size) if hopper else MMA_QUERY_TILE
    plan = Plan.of(lengths, query_tile, kernels.DEVICE)

    def own(i: int) -> None:
        for kernel in ("short_mma", "long_hopper" if hopper else "long_mma"):
            kernels.attention(
                kernel, plan, qkv[i], out[i], num_heads=heads, head_size=size, scale=scale
            )

    def eager(i: int) -> torch.Tensor:
        scores = q[i] @ k[i].transpose(-1, -2) * scale + mask
        return scores.softmax(-1) @ v[i]

    sizes = {"S": len(lengths), "A": heads, "D": size, "L": longest, "T": tokens}
    flops = 4.0 * sum(length**2 for length in lengths) * width
    launches: dict[str, Launch] = {"vlt": own, "eager": eager}
    return Case("padded attention", "-", sizes, flops, num_bytes, num_sets, launches)


def row_cases(models: list[str], dtype: torch.dtype) -> Iterator[Case]:
    """The kernels that memory bounds; their bar is the device's copy."""
    for model in models:
        for tokens in ROW_TOKENS:
            yield from _row_cases(model, HIDDEN_SIZES[model], tokens, dtype)
    for count in PLAN_SEQUENCES:
        yield _plan_case(count)


def _row_cases(model: str, h: int, tokens: int, dtype: torch.dtype) -> Iterator[Case]:
    num_sets = num_input_sets(2 * ELEMENT_BYTES * tokens * h)
    x, out = _normal(num_sets, tokens, h, dtype=dtype), _normal(num_sets, tokens, h, dtype=dtype)
    ones, zeros = torch.ones(h, device="cuda"), torch.zeros(h, device="cuda")
    norm = kernels.Norm(ones, zeros, 1e-12)
    weight, bias = ones.to(dtype), zeros.to(dtype)
    plan = Plan.of([tokens], MMA_QUERY_TILE, kernels.DEVICE)

    def layernorm(lane_rows: int) -> Launch:
        return lambda i: kernels.layernorm(plan, x[i], norm, out[i], lane_rows=lane_rows)

    by_rows = {f"rows {n}": layernorm(n) for n in (1, 2, 4) if dtype == torch.float16}
    yield Case(
        "layernorm",
        model,
        {"T": tokens, "H": h},
        0,
        2.0 * ELEMENT_BYTES * tokens * h,
        num_sets,
        {
            "vlt": layernorm(0),
            "torch": lambda i: F.layer_norm(x[i], (h,), weight, bias, 1e-12),
            **by_rows,
        },
    )
    equal, mixed = [128] * (tokens // 128), _mixed_lengths(tokens)
    yield _embed_case(model, equal, norm, out)
    yield _pool_case("pool", model, equal, x)
    yield _pool_case("pool mixed", model, mixed, x)


def _mixed_lengths(tokens: int) -> list[int]:
    """Lengths as of texts, most of them short: 1 … 512, 64 on average before the cut at 512."""
    draw, lengths = random.Random(tokens), list[int]()
    while (left := tokens - sum(lengths)) > 0:
        lengths.append(min(left, 512, 1 + int(draw.expovariate(1 / 64))))
    return lengths


def _embed_case(model: str, lengths: list[int], norm: kernels.Norm, out: torch.Tensor) -> Case:
    """Ids drawn evenly from a vocabulary as large as BERT's: no text repeats its words so rarely.

    Counted are the rows written, a word row read for each of them, from whichever memory, and the
    ids. Of word rows that are read again (of 65,536, more than half), some come from the L2 cache:
    the note says what would be counted if all did.
    """
    num_sets, tokens, h = out.shape
    word, position = (_normal(rows, h, dtype=out.dtype) for rows in (30_522, 512))
    token_type = _normal(2, h, dtype=out.dtype)
    ids = torch.randint(len(word), (num_sets, tokens), device="cuda", dtype=torch.int32)
    batches = [Batch.of(starts_of(lengths), kernels.DEVICE, token_ids=row) for row in ids]
    plan, error = Plan.of(lengths, MMA_QUERY_TILE, kernels.DEVICE), kernels.ErrorSlot.empty()
    distinct = len(ids[0].unique())

    def run(i: int) -> None:
        kernels.embed_layernorm(batches[i], plan, word, position, token_type, norm, out[i], error)

    sizes = {"T": tokens, "H": h}
    num_bytes = 2.0 * ELEMENT_BYTES * tokens * h + 4 * tokens
    once = (num_bytes - ELEMENT_BYTES * (tokens - distinct) * h) / num_bytes
    notes = {"distinct rows": f"{once:.2f} of these bytes with each word row once"}
    return Case("embed_layernorm", model, sizes, 0, num_bytes, num_sets, {"vlt": run}, notes)


def _pool_case(name: str, model: str, lengths: list[int], states: torch.Tensor) -> Case:
    """The mean of each sequence."""
    num_sets, tokens, h = states.shape
    count = len(lengths)
    batch = Batch.of(starts_of(lengths), kernels.DEVICE)
    plan = Plan.of(lengths, MMA_QUERY_TILE, kernels.DEVICE)
    pooled = torch.zeros(num_sets, count, h, device="cuda")

    def run(i: int) -> None:
        kernels.pool(batch, plan, states[i], ["mean"], pooled[i])

    sizes = {"T": tokens, "H": h, "S": count}
    num_bytes = 1.0 * ELEMENT_BYTES * tokens * h + 4 * h * count
    return Case(name, model, sizes, 0, num_bytes, num_sets, {"vlt": run})


def _plan_case(count: int) -> Case:
    draw = random.Random(count)
    lengths = [min(512, 1 + int(draw.paretovariate(0.7))) for _ in range(count)]
    batch, error = Batch.of(starts_of(lengths), kernels.DEVICE), kernels.ErrorSlot.empty()
    plan = Plan.poisoned(sum(lengths), count, kernels.DEVICE)

    def run(_: int) -> None:
        kernels.plan_batch(
            batch,
            plan,
            error,
            max_tokens=sum(lengths),
            max_sequences=count,
            max_length=512,
            query_tile=HOPPER_QUERY_TILES[0],
        )

    sizes = {"S": count, "T": sum(lengths)}
    return Case("plan", "-", sizes, 0, 20.0 * count, 1, {"vlt": run})


def _normal(*shape: int, dtype: torch.dtype, scale: float = 1) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=dtype) * scale
