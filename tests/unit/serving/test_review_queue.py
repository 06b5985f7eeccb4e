"""`GET /review`: rows for people to look at, as the runner asks for them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from answering import quiet_worker

from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.core.review.asked_row import AskedRow
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.worker import Answer, Worker
from bento_selfheal.simulation.demo import demo_stream
from bento_selfheal.store import StepRecord
from bento_selfheal.wire.messages import FeedbackItem

ROWS = demo_stream(2, 0, 3.5, 1).rows[:20]


def ask(worker: Worker, answer: Answer) -> None:
    """What the runner does: it puts every row of an answer into the queue."""
    token = worker.store.acquire_lease("runner", 60.0)
    assert token is not None
    rows = [
        AskedRow(answer.request, row, 0.25, row / 100, "the challenger disagrees", time.time())
        for row in range(len(ROWS))
    ]
    worker.store.commit(token, StepRecord(b"", {}, asked=rows, after_promotion=1))


@pytest.mark.parametrize(
    "policy",
    [{"review": "flagged", "review_explored": 0.2}, {"review": "queue", "review_budget": 12}],
    ids=["flagged", "queue"],
)
def test_review(package: Package, tmp_path: Path, policy: dict[str, object]) -> None:
    """It gives rows by the names of their columns, with what was said and how likely they were to
    be asked for, and says how many are left; ids are good for labels."""
    with quiet_worker(package, tmp_path, **policy) as worker:
        answer = worker.answer(ROWS)
        worker.log.flush()
        ask(worker, answer)
        found = json.loads(json.dumps(worker.operations.review(3)))
        assert found["rule"] == policy["review"]
        assert found["classes"] == [0, 1]
        assert found["budget"] == policy.get("review_budget")
        assert found["left"] == (9 if found["budget"] else None)
        assert [row["prediction_id"] for row in found["rows"]] == answer.ids[:3]
        first = found["rows"][0]
        assert list(first["features"]) == package.info.features
        assert list(first["features"].values()) == ROWS[0].tolist()
        assert first["probability"] == pytest.approx(float(answer.probabilities[0]))
        assert first["decision"] == worker.decide(answer)[0]
        assert (first["review_probability"], first["why"]) == (0.25, "the challenger disagrees")
        item = FeedbackItem(prediction_id=first["prediction_id"], label=1)
        assert worker.feedback.accept([item], None).unmatched == 0
        rest = worker.operations.review(1000)
        more = 9 if found["budget"] else 17
        assert [row["prediction_id"] for row in rest["rows"]] == answer.ids[3 : 3 + more]


def test_nothing_to_review_by_default(package: Package, tmp_path: Path) -> None:
    """Where every label is asked for there is no queue, and the answer says so."""
    with quiet_worker(package, tmp_path) as worker:
        worker.answer(ROWS)
        worker.log.flush()
        found = worker.operations.review(50)
    assert (found["rule"], found["rows"], found["left"]) == ("all", [], None)


def test_answers_say_nothing_of_the_queue(package: Package, tmp_path: Path) -> None:
    """Who is asked about is decided by the runner, which knows the challenger: answers and log are
    as without a policy."""
    with quiet_worker(package, tmp_path, review="queue", review_budget=5) as worker:
        assert worker.answer(ROWS).review is None
        worker.log.flush()
        [logged] = worker.store.read_log(0, 0)
    assert isinstance(logged, PredictionRecord)
    assert logged.review == b""
