"""What a figure was measured on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

# Name of a peer -> the package whose version says which one it was.
PACKAGES = {
    "torch": "torch",
    "ort": "onnxruntime",
    "ov": "openvino",
    "ct2": "ctranslate2",
    "st": "sentence-transformers",
}


def read(threads: int, precision: str, peers: list[str]) -> dict[str, str]:
    """Machine, threads, precision and versions, in the order to print them."""
    packages = dict.fromkeys(PACKAGES[peer.partition("-")[0]] for peer in peers)
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(threads),
        "precision": precision,
        "python": platform.python_version(),
        **versions,
    }


def read_gpu(precision: str) -> dict[str, str]:
    """GPU, precision, versions and date, in the order to print them."""
    import torch
    import transformers

    import vlt

    return {
        "GPU": torch.cuda.get_device_name(),
        "precision": precision,
        "vlt": vlt.__version__,
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The processor's name and the widest instruction set that matters here."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    widest = next((flag for flag in ("avx512f", "avx2") if flag in flags), platform.machine())
    family = f"family {facts['cpu family']} model {facts['model']}" if "model" in facts else ""
    return f"{facts.get('model name', 'unknown')} ({family}, {widest})"
