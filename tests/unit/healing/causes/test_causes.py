"""Why it drifts: the column that moved is named, and whether its meaning changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mixed import codes, flights, packaged
from rigs import settings_of

from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream


def causes_of(change: Callable[[list[Any]], list[Any]], *, turned: bool) -> list[dict[str, Any]]:
    """What is told of the causes of a drift after 1,000 calm rows."""
    calm, later = flights(1000, seed=5), flights(1500, seed=6, turned=turned)
    rows = [*calm[0], *(change(list(row)) for row in later[0])]
    late = np.asarray([label == "late" for label in (*calm[1], *later[1])], dtype=np.int64)
    run = Backtest(packaged(n=2000), settings_of())
    list(run.run(Stream(codes(rows), late, 100, 100)))
    events = [event for event in run.events if event.kind in ("drifting", "drift_explained")]
    return [event.detail.get("causes", event.detail) for event in events]


def hail(row: list[Any]) -> list[Any]:
    """A category that training lacked."""
    return [*row[:3], "hail", *row[4:]]


def silent(row: list[Any]) -> list[Any]:
    """A number that no longer comes."""
    return [None, *row[1:]]


@pytest.mark.parametrize(
    ("change", "column", "of"), [(hail, "sky", "unseen"), (silent, "speed", "missing")]
)
def test_the_column_that_moved_comes_first(
    change: Callable[[list[Any]], list[Any]], column: str, of: str
) -> None:
    """Whoever reads the event learns which column moved, and what of it."""
    told = causes_of(change, turned=False)[0]
    first = told["columns"][0]
    assert (first["name"], first["of"], first["moved"]) == (column, of, True)
    assert first["divergence"] > 5 * first["expected"]
    assert column in told["sentence"]


def test_a_changed_meaning_is_told_from_moved_inputs() -> None:
    """When rain delays and no longer fog, labels say so, and no input has moved."""
    every = causes_of(lambda row: row, turned=True)
    told = next(one for one in every if one["kind"] != "not enough labels to tell")
    assert told["kind"] == "concept drift"
    assert [c["name"] for c in told["columns"] if c["meaning_changed"]] == ["sky"]
    assert "the meaning of sky changed" in told["sentence"]
