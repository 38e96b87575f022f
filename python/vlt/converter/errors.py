"""The exception of the converter."""

from __future__ import annotations

from ..errors import VltError


class ConversionError(VltError, ValueError):
    """A model folder that cannot be converted; the message names the file, the field and why."""
