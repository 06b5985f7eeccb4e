"""Writes a mixed table of bird strikes that are made up, oldest first, as CSV.

    python strikes.py [ROWS] > strikes.csv

Names, dates, a switch, and speeds that are often missing. In the first half large birds damage
aircraft, at speed; then a new fleet stands them, and is damaged in climbs, by small ones in flocks.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np

COLUMNS = (
    "airport", "aircraft", "flight date", "phase of flight", "wildlife size", "at night",
    "speed in knots", "damaged",
)  # fmt: skip
AIRPORTS = ("Atlanta", "Boston", "Denver", "Newark", "Portland")
AIRCRAFT = ("A-320", "B-737", "CL-RJ100", "DC-9", "T-38A")
PHASES = ("Approach", "Climb", "Landing Roll", "Take-off run")
SIZES = ("Small", "Medium", "Large")


def strikes(count: int, seed: int = 0) -> Iterator[list[str]]:
    """Rows in the order of `COLUMNS`; an empty cell is a missing value."""
    draw, first = np.random.default_rng(seed), date(1990, 1, 1)
    for i in range(count):
        size, phase = str(draw.choice(SIZES)), str(draw.choice(PHASES))
        speed, night = float(draw.normal(140, 35)), bool(draw.random() < 0.4)
        if i < count / 2:
            odds = 4.0 * (size == "Large") - 2.5 + (speed - 140) / 35
        else:
            odds = 4.0 * (phase == "Climb") + 1.5 * (size == "Small") - 2.5
        damaged = draw.random() < 1 / (1 + np.exp(-odds))
        day = first + timedelta(days=i * 4000 // count)
        yield [
            str(draw.choice(AIRPORTS)), str(draw.choice(AIRCRAFT)), day.isoformat(), phase, size,
            "yes" if night else "no", "" if draw.random() < 0.28 else f"{speed:.0f}",
            "damaged" if damaged else "intact",
        ]  # fmt: skip


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    csv.writer(sys.stdout, lineterminator="\n").writerows([COLUMNS, *strikes(rows)])


if __name__ == "__main__":
    main()
