"""How many labels came in the last minute, counted over all workers and replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import Part
from bento_selfheal.store.keys import chunks

SECONDS = 60


@dataclass(frozen=True)
class OverRate:
    """Whose labels are too many, and when a minute with room for them begins."""

    name: str
    seconds: float


class LabelRates(Part):
    """Counts in a window that slides: of the minute before, the part that is less than a minute
    ago counts in proportion."""

    def count_labels(self, labels: Mapping[str, tuple[int, int]], now: float) -> OverRate | None:
        """Count the labels of one request, all or none; None when they are within their limits.

        Args:
            labels: By name, how many came, and how many a minute may.
            now: Seconds since the epoch.
        """
        minute, passed = int(now // SECONDS), now % SECONDS
        r = t.label_rates.c
        with self._db.write(lasting=False) as c:
            c.execute(delete(t.label_rates).where(r.minute < minute - 1))
            rows = [
                row for part in chunks(list(labels))
                for row in c.execute(select(t.label_rates).where(r.name.in_(part)))
            ]  # fmt: skip
            known = {row.name: row for row in rows}
            counts = {name: _counts(known.get(name), minute) for name in labels}
            for name, (count, most) in labels.items():
                before, here = counts[name]
                if before * (1 - passed / SECONDS) + here + count > most:
                    return OverRate(name, SECONDS - passed)
            for part in chunks(list(known)):
                c.execute(delete(t.label_rates).where(r.name.in_(part)))
            new = [
                {"name": n, "minute": minute, "now": counts[n][1] + labels[n][0],
                 "before": counts[n][0]}
                for n in labels
            ]  # fmt: skip
            c.execute(insert(t.label_rates), new)
        return None


def _counts(row: Any, minute: int) -> tuple[int, int]:
    """Labels of the minute before, and of this one."""
    if row is None or row.minute < minute - 1:
        return 0, 0
    return (row.before, row.now) if row.minute >= minute else (row.now, 0)
