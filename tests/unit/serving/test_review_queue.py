"""`GET /review`: the rows that are asked for and have no label yet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from answering import quiet_worker

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.wire.messages import FeedbackItem

ROWS = article_rows(200, 1.0, np.random.default_rng(1)).rows
POLICY = {"review": "flagged", "review_explored": 0.2}


def test_review(package: Package, tmp_path: Path) -> None:
    """It names rows that are asked for, those drawn by chance first and the least sure ones next,
    with their features; a row that gets its label is there no more."""
    with quiet_worker(package, tmp_path, **POLICY) as worker:
        answer = worker.answer(ROWS)
        worker.log.flush()
        found = json.loads(json.dumps(worker.operations.review(1000)))
        assert answer.review is not None
        asked = answer.review.asked(answer.request)
        assert {one["prediction_id"] for one in found} == {
            answer.ids[i] for i in np.flatnonzero(asked)
        }
        chances = [one["review_probability"] for one in found]
        assert chances == sorted(chances)
        assert set(chances) == {0.2, 1.0}
        sure = [abs(one["probability"] - 0.5) for one in found if one["review_probability"] == 1]
        assert sure == sorted(sure)
        row = answer.ids.index(found[0]["prediction_id"])
        assert list(found[0]["features"].values()) == ROWS[row].tolist()
        assert found[0]["why"] == "drawn by chance"

        item = FeedbackItem(prediction_id=found[0]["prediction_id"], label=1)
        assert worker.feedback.accept([item], None).unmatched == 0
        assert worker.operations.review(3) == found[1:4]


def test_nothing_to_review_by_default(package: Package, tmp_path: Path) -> None:
    """Where every label is asked for there is no queue."""
    with quiet_worker(package, tmp_path) as worker:
        worker.answer(ROWS)
        worker.log.flush()
        assert worker.operations.review(50) == []
