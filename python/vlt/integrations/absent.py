"""What a module for another library says where the package it is for is not installed."""

from __future__ import annotations


def absent(module: str, package: str, extra: str, error: ImportError) -> ImportError:
    """The error to raise instead of `error`: what is missing, and how to install vlt with it."""
    return ImportError(
        f"{module} needs the package {package} ({error}); "
        f"install vlt with it, from a checkout: pip install '.[{extra}]', or from a wheel that "
        f"you built: pip install 'PATH_OF_THE_WHEEL[{extra}]'"
    )
