"""Matrices inside poisoned memory: reading outside spreads NaN, writing outside is noticed."""

from __future__ import annotations

import torch

FRONT_ROWS, BACK_ROWS = 4, 8  # of poison
PADDING = 8  # the fewest columns of poison behind each row
ALIGNMENT = 8  # elements, so that rows of 2 bytes an element start at multiples of 16 bytes

# A quiet NaN that no kernel produces, as an integer of the element's width.
_POISON = {
    torch.float16: (torch.int16, 0x7E5A),
    torch.bfloat16: (torch.int16, 0x7FDA),
    torch.float32: (torch.int32, 0x7FC5A5A5),
    torch.int32: (torch.int32, 0x7FC5A5A5),
}


class Guarded:
    """A matrix [rows, cols] with poison before, behind and between its rows, and in it.

    Parameters
    ----------
    rows, cols : int
        Of `view`, the matrix itself.
    stride : int, optional
        Elements from row to row, at least cols; by default cols rounded up to 8, and 8 more. A
        stride equal to cols leaves no poison between the rows.

    Attributes
    ----------
    spare_cols : int
        How many columns behind the matrix's own may be written as well; at first none.
    """

    def __init__(
        self, rows: int, cols: int, dtype: torch.dtype, device: torch.device, stride: int = 0
    ) -> None:
        stride = stride or -(-cols // ALIGNMENT) * ALIGNMENT + PADDING
        integer, self._poison = _POISON[dtype]
        shape = (FRONT_ROWS + rows + BACK_ROWS, stride)
        self._bits = torch.full(shape, self._poison, dtype=integer, device=device)
        self._rows = rows
        self.spare_cols = 0
        self.view = self._bits.view(dtype)[FRONT_ROWS : FRONT_ROWS + rows, :cols]

    def poison(self) -> None:
        """Fill all with poison again, the matrix too."""
        self._bits.fill_(self._poison)

    def damage(self, rows: int | None = None) -> str:
        """Where something was written outside the first `rows` rows (default: all); or ''."""
        rows = self._rows if rows is None else rows
        changed = self._bits != self._poison
        cols = self.view.shape[1] + self.spare_cols
        changed[FRONT_ROWS : FRONT_ROWS + rows, :cols] = False
        if not bool(changed.any()):
            return ""
        place = int(changed.flatten().to(torch.uint8).argmax())
        row, col = divmod(place, changed.shape[1])
        return (
            f"{int(changed.sum())} elements written outside [{rows}, {cols}], "
            f"first at row {row - FRONT_ROWS}, column {col}"
        )


def guard(values: torch.Tensor, spare_rows: int = 0, stride: int = 0) -> Guarded:
    """A copy of a matrix inside poison, with `spare_rows` rows of poison that belong to it."""
    rows, cols = values.shape
    guarded = Guarded(rows + spare_rows, cols, values.dtype, values.device, stride)
    guarded.view[:rows] = values
    return guarded
