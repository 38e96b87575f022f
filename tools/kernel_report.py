"""Tables of kernel times: rates, shares of what the device can do, and peers' time over vlt's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Ceilings:
    """What this device reached in this run."""

    flops: float  # a second, in PyTorch's product of two 8192 × 8192 float16 matrices
    bytes: float  # a second, read and written, in a large copy


@dataclass(frozen=True)
class Result:
    """One case's seconds by the names of its ways; see kernel_cases.Case."""

    kernel: str
    model: str
    sizes: dict[str, int]
    flops: float
    bytes: float
    seconds: dict[str, float]
    notes: dict[str, str]
    chosen_tile: int = -1  # where every tile was timed

    @property
    def own(self) -> float:
        """vlt's best time."""
        return min(value for name, value in self.seconds.items() if name.startswith("vlt"))

    def ratio(self, peer: str, own: str | None = None) -> float:
        """The peer's time over vlt's, NaN where there is no such peer: above 1, vlt is faster."""
        ours = self.seconds[own] if own else self.own
        return self.seconds.get(peer, math.nan) / ours

    def floor(self, ceilings: Ceilings) -> float:
        """Seconds below which no kernel can stay on this device."""
        return max(self.flops / ceilings.flops, self.bytes / ceilings.bytes)

    def to_json(self, ceilings: Ceilings) -> dict[str, Any]:
        rates = {
            name: {
                "us": seconds * 1e6,
                "tflops": self.flops / seconds / 1e12,
                "gb_per_s": self.bytes / seconds / 1e9,
                "share_of_ceiling": self.floor(ceilings) / seconds,
            }
            for name, seconds in self.seconds.items()
        }
        return {**asdict(self), "rates": rates}


def print_gemm(results: list[Result]) -> None:
    """One line a product, one cell a number of rows."""
    print(
        "\nlinear: TFLOP/s with the model's epilogue | torch / vlt, both with the bias alone | "
        "both with the epilogue, as far as cuBLAS has it"
    )
    rows = sorted({result.sizes["M"] for result in results})
    print(f"{'M':>26}" + "".join(f"{m:>15}" for m in rows))
    for line in _by_product(results):
        cells = (
            f"{r.flops / r.seconds['vlt'] / 1e12:.0f}|{r.ratio('torch', 'vlt bias'):.2f}|"
            f"{r.ratio('torch like', 'vlt'):.2f}"
            for r in line
        )
        print(f"{_product_name(line[0]):>26}" + "".join(f"{cell:>15}" for cell in cells))
    for peer, name in (("torch", "vlt bias"), ("torch", "vlt"), ("torch like", "vlt")):
        ratios = [result.ratio(peer, name) for result in results]
        print(f"{peer} / {name}: geometric mean {_mean(ratios):.3f}, worst {min(ratios):.3f}")


def print_tiles(results: list[Result], tile_names: list[str]) -> None:
    """The tile that is chosen; where another is faster, that one and by how much."""
    print("\nlinear, every tile: chosen, or chosen<best +percent that the chosen one is slower")
    print("  ".join(f"{index}: {name}" for index, name in enumerate(tile_names)))
    rows = sorted({result.sizes["M"] for result in results})
    print(f"{'M':>26}" + "".join(f"{m:>11}" for m in rows))
    losses = []
    for line in _by_product(results):
        cells = []
        for result in line:
            best = min(result.seconds, key=lambda name: result.seconds[name])
            chosen = f"tile {result.chosen_tile}"
            loss = result.seconds[chosen] / result.seconds[best]
            losses.append(loss)
            number = best.removeprefix("tile ")
            better = "" if best == chosen else f"<{number} +{(loss - 1) * 100:.0f}%"
            cells.append(f"{result.chosen_tile}{better}")
        print(f"{_product_name(line[0]):>26}" + "".join(f"{cell:>11}" for cell in cells))
    print(f"chosen / best: geometric mean {_mean(losses):.3f}, worst {max(losses):.3f}")


def print_attention(results: list[Result], ceilings: Ceilings) -> None:
    print("\nattention: share is of the bandwidth or FLOP ceiling, whichever binds; peer / vlt")
    print("heads     L       µs  TFLOP/s   GB/s  share  varlen  cudnn   of these µs")
    for r in results:
        seconds = r.own
        own = " ".join(
            f"{name.removeprefix('vlt ')} {value * 1e6:.1f}"
            for name, value in r.seconds.items()
            if name.startswith("vlt")
        )
        print(
            f"{r.sizes['A']:>2}x{r.sizes['D']:<4}{r.sizes['L']:>5}{seconds * 1e6:>9.1f}"
            f"{r.flops / seconds / 1e12:>9.0f}{r.bytes / seconds / 1e9:>7.0f}"
            f"{r.floor(ceilings) / seconds:>7.2f}{r.ratio('varlen'):>8.2f}{r.ratio('cudnn'):>7.2f}"
            f"   {own}"
        )
    _print_notes(results)


def print_padded_attention(results: list[Result]) -> None:
    print("\nattention of 16 sequences against PyTorch's padded one step by step; paper: 6.13")
    print("longest  tokens       µs  eager µs  eager / vlt")
    for r in results:
        eager = r.seconds["eager"]
        print(
            f"{r.sizes['L']:>7}{r.sizes['T']:>8}{r.own * 1e6:>9.1f}{eager * 1e6:>10.1f}"
            f"{r.ratio('eager'):>13.2f}"
        )
    print(f"geometric mean {_mean([r.ratio('eager') for r in results]):.2f}")


def print_rows(results: list[Result], ceilings: Ceilings) -> None:
    print("\nrows: share is of the copy's bandwidth")
    print(f"{'kernel':<16}{'sizes':<20}{'µs':>8}{'GB/s':>7}{'share':>7}{'torch / vlt':>13}")
    for r in results:
        sizes = " ".join(f"{key}={value}" for key, value in r.sizes.items())
        peer = f"{r.ratio('torch'):.2f}" if "torch" in r.seconds else "-"
        print(
            f"{r.kernel:<16}{sizes:<20}{r.own * 1e6:>8.1f}{r.bytes / r.own / 1e9:>7.0f}"
            f"{r.floor(ceilings) / r.own:>7.2f}{peer:>13}   "
            + ", ".join(
                f"{name} {seconds * 1e6:.1f}"
                for name, seconds in r.seconds.items()
                if name not in ("vlt", "torch")
            )
            + "".join(f" ({note})" for note in r.notes.values())
        )


def _print_notes(results: Iterable[Result]) -> None:
    for text in sorted({f"{name}: {note}" for r in results for name, note in r.notes.items()}):
        print(f"not to be had, {text}")


def _by_product(results: list[Result]) -> list[list[Result]]:
    lines: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        lines.setdefault((result.model, result.kernel), []).append(result)
    return [sorted(line, key=lambda result: result.sizes["M"]) for line in lines.values()]


def _product_name(result: Result) -> str:
    return f"{result.model} {result.kernel} {result.sizes['N']}x{result.sizes['K']}"


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
