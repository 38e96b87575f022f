"""torch tensors of results, for callers who ask for them."""

from __future__ import annotations

from typing import Any


def import_torch() -> Any:
    """The module torch, only where tensors are asked for."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "convert_to_tensor=True and convert_to_numpy=False give torch tensors, and torch is "
            f"not installed ({error}); leave them out for numpy arrays"
        ) from error
    return torch
