"""The truth about compared rows: which version was right. On the event loop.

What both versions predicted is remembered for a bounded number of requests, the oldest of which are forgotten first.
A row's truth counts once.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from modelkit.contract.route import LabelReport
from modelkit.serve.feedback import Label
from modelkit.serve.rollout.predictions import is_number

MAX_ROWS = 100_000
MAX_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 400
"""Of one request without its rows."""
_ROW_BYTES = 128
_MAX_LOSS = 1e100
"""So that sums of squares stay finite."""

_Rows = dict[int, tuple[Any, Any]]


class LabelTally:
    """The labels of one measurement."""

    def __init__(self, *, is_classification: bool) -> None:
        self._is_classification = is_classification
        self._rows = self._own_wins = self._other_wins = self._own_right = self._other_right = 0
        self._own_loss = self._other_loss = self._squares = 0.0

    def add(self, own: Any, other: Any, truth: Any) -> None:
        """One row: what both predicted, and what is true."""
        if self._is_classification:
            own_loss, other_loss = float(own != truth), float(other != truth)
            self._own_right += own_loss == 0
            self._other_right += other_loss == 0
        elif is_number(own) and is_number(other) and is_number(truth):
            own_loss, other_loss = min(abs(own - truth), _MAX_LOSS), min(abs(other - truth), _MAX_LOSS)
        else:
            return
        self._rows += 1
        self._own_wins += own_loss < other_loss
        self._other_wins += other_loss < own_loss
        self._own_loss += own_loss
        self._other_loss += other_loss
        self._squares += (other_loss - own_loss) ** 2

    def report(self) -> LabelReport:
        """The sums so far."""
        return LabelReport(
            rows=self._rows,
            own_wins=self._own_wins,
            other_wins=self._other_wins,
            own_right=self._own_right,
            other_right=self._other_right,
            own_loss=self._own_loss,
            other_loss=self._other_loss,
            difference_squares=self._squares,
        )


class Memory:
    """What both versions predicted, by request id."""

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[_Rows, int, int]] = OrderedDict()
        self._row_count = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Requests."""
        return len(self._entries)

    @property
    def rows(self) -> int:
        """Rows, those with a known truth included."""
        return self._row_count

    def add(self, name: str, own: list[Any], other: list[Any]) -> None:
        """Remember one request; of two with one id, the newer one."""
        self._forget(name)
        rows = dict(enumerate(zip(own, other, strict=True)))
        size = (
            _ENTRY_BYTES + len(name) + sum(_ROW_BYTES + _size(mine) + _size(theirs) for mine, theirs in rows.values())
        )
        if len(rows) > self._max_rows or size > self._max_bytes:
            return
        self._entries[name] = (rows, len(rows), size)
        self._row_count += len(rows)
        self._bytes += size
        while self._row_count > self._max_rows or self._bytes > self._max_bytes:
            self._forget(next(iter(self._entries)))

    def join(self, labels: Iterable[Label], tally: LabelTally) -> tuple[int, list[Label]]:
        """Count the labels of rows that are remembered: how many there were, and the labels of unknown requests."""
        joined, unknown = 0, []
        for label in labels:
            entry = self._entries.get(label.id)
            if entry is None:
                unknown.append(label)
            elif (pair := entry[0].pop(label.row, None)) is not None:
                tally.add(*pair, label.value)
                joined += 1
        return joined, unknown

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._row_count = self._bytes = 0

    def _forget(self, name: str) -> None:
        _, rows, size = self._entries.pop(name, ({}, 0, 0))
        self._row_count -= rows
        self._bytes -= size


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0
