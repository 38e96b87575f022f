"""Weights files that must be refused, each with the reason and the words of the refusal.

The files are built in memory: they are small, and a change of the format shows in one place.
"""

from __future__ import annotations

from hostile import container, families, header, metadata, tensors

CASES = [*container.CASES, *families.CASES, *header.CASES, *metadata.CASES, *tensors.CASES]
