"""How all pictures of benchmarks look, and how they are written. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

# For matplotlib's rc_context. With it the same figures give the same file.
STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "savefig.facecolor": "white",
    "svg.hashsalt": "vlt",
}


def save(figure: Figure, path: Path) -> None:
    """Write the picture in the format that its name ends in; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
