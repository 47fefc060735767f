"""Work items: what attention computes, as rows of the batch against tokens of the cache."""

from collections.abc import Sequence
from typing import NamedTuple


class Item(NamedTuple):
    """Rows `row_begin..row_end` of the batch against tokens `begin..end` of `blocks` (counted from the first block's
    start).
    """

    row_begin: int
    row_end: int
    blocks: Sequence[int]
    begin: int
    end: int
    causal: bool = False  # row `row_begin + j` sees only tokens up to `end - (row_end - row_begin) + j`
    offset: int = 0  # position of the first block's first token, in each sequence of the rows

    @property
    def rows(self) -> int:
        """Rows."""
        return self.row_end - self.row_begin

    @property
    def length(self) -> int:
        """Tokens."""
        return self.end - self.begin
