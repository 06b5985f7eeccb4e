"""The status board: trouble shows, whichever part of the runner has it."""

from __future__ import annotations

from bento_selfheal.runner.status_board import StatusBoard
from bento_selfheal.store import SqlStore


def test_rows_that_the_model_cannot_answer(store: SqlStore) -> None:
    """Where healing sets one labelled row aside after the other, that is the runner's trouble;
    without any, there is none."""
    board = StatusBoard(store, lambda: None, list)
    assert board.with_own({"rows_trouble": "20 rows"})["trouble"] == "20 rows"
    assert board.with_own({"rows_trouble": ""})["trouble"] == ""
