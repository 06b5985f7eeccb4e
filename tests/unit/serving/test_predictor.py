"""`/predict`: one model and one threshold per answer, and bad rows refused by name."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from answering import predictor_of, quiet_worker
from numpy.typing import NDArray

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.records import OperatingPoint, PointKind, PredictionRecord
from bento_selfheal.errors import InvalidInput, Overloaded
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import predict_probabilities
from bento_selfheal.serving.answering import computing as computing_module
from bento_selfheal.serving.answering.dispatcher import Dispatcher
from bento_selfheal.serving.answering.predictor import Predictor
from bento_selfheal.serving.http.replies import Reply
from bento_selfheal.serving.predict_service import PredictBase
from bento_selfheal.serving.worker import Worker
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.wire.messages import NPY, THRESHOLD_HEADER, VERIFIED_HEADER

JSON = {"content-type": "application/json"}
LOW, HIGH = OperatingPoint(0.0, PointKind.COSTS), OperatingPoint(1.0, PointKind.UNVERIFIED)


@pytest.fixture
def worker(package: Package, tmp_path: Path) -> Iterator[Worker]:
    with quiet_worker(package, tmp_path / "state") as worker:
        yield worker


@pytest.fixture
def predictor(worker: Worker) -> Predictor:
    return predictor_of(worker)


def rows(n: int = 50) -> NDArray[np.float32]:
    return article_rows(n, 1.0, np.random.default_rng(1)).rows


def body(table: NDArray[np.float32]) -> bytes:
    return json.dumps({"rows": table.tolist()}).encode()


def npy(table: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, table)
    return file.getvalue()


def replied(reply: Coroutine[Any, Any, Reply | None]) -> Reply:
    found = asyncio.run(reply)
    assert found is not None
    return found


class Moving:
    """A model behind which the threshold moves while it computes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._real = computing_module.predict_probabilities

    def __call__(self, model: SelfHealingModel, table: NDArray[np.float32]) -> Any:
        follower = self._worker.follower
        point = HIGH if follower.champion.threshold == LOW.threshold else LOW
        answer = self._real(model, table)
        follower.champion = follower.champion.at(point)
        return answer


def test_one_threshold_in_an_answer(
    worker: Worker, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the threshold changes, an answer decides by the threshold that it reports, and says
    of that very one whether it is verified: on each way, and in the monitor's records."""
    worker.follower.champion = worker.follower.champion.at(LOW)
    monkeypatch.setattr(computing_module, "predict_probabilities", Moving(worker))
    for threshold in (0.0, 1.0):
        answer = json.loads(replied(predictor.reply(JSON, body(rows()))).body)
        assert answer["threshold"] == threshold
        assert answer["verified"] is (threshold == 0.0)
        decided = decide_classes(np.asarray(answer["probabilities"]), threshold)
        assert answer["decisions"] == decided.tolist()
    slow = asyncio.run(predictor.predict(rows().tolist()))
    assert (slow.threshold, slow.verified, set(slow.decisions)) == (0.0, True, {1})
    headers = {"content-type": NPY, "accept": NPY}
    told = replied(predictor.reply(headers, npy(rows()))).headers
    assert (told[THRESHOLD_HEADER], told[VERIFIED_HEADER]) == ("1.0", "false")
    assert worker.monitor is not None
    assert [r.threshold for r in worker.monitor._queue] == [0.0, 1.0, 0.0, 1.0]  # type: ignore[union-attr]


class Picky(torch.nn.Module):
    """A backbone that looks its first feature up in a table of ten, in place."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.codes = torch.nn.Embedding(10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.codes(x[:, 0].long())
        out: torch.Tensor = self.inner(x.clamp_(-1, 1))
        return out


@pytest.fixture
def picky(worker: Worker) -> Worker:
    """A worker whose model raises on rows whose first value is no code."""
    champion = worker.follower.champion
    model = champion.model
    other = SelfHealingModel(Picky(model.backbone), model.reflexive, model.head, model.output)
    worker.follower.champion = replace(champion, model=other.requires_grad_(False))
    worker.package.reference_rows[:, 0] = 1.0
    return worker


def coded(*codes: float) -> NDArray[np.float32]:
    table = rows(len(codes)) * 5
    table[:, 0] = codes
    return table


def test_a_row_that_the_model_cannot_answer(picky: Worker, predictor: Predictor) -> None:
    """It is a 4xx that names the row, from JSON, NumPy files and on BentoML's way; nothing of the
    request is logged, and the other rows are answered without it."""
    bad = coded(1, 2, 77, 3)
    for reply in (
        replied(predictor.reply(JSON, body(bad))),
        replied(predictor.reply({"content-type": NPY}, npy(bad))),
    ):
        assert reply.status == 400
        [detail] = json.loads(reply.body)["detail"]
        assert (detail["loc"], detail["type"]) == (["rows", 2], "model")
        assert "IndexError" in detail["msg"]
    with pytest.raises(InvalidInput) as refused:
        asyncio.run(predictor.predict(bad.tolist()))
    assert refused.value.loc == ("rows", 2)
    assert picky.log.appended == 0
    assert replied(predictor.reply(JSON, body(coded(1, 2, 3)))).status == 200


def test_a_model_that_fails(picky: Worker, predictor: Predictor) -> None:
    """A model that raises for any row is a defect of the service, not of the row."""
    picky.package.reference_rows[:, 0] = 99
    with pytest.raises(IndexError):
        asyncio.run(predictor.reply(JSON, body(coded(77, 1))))


def together(predictor: Predictor, *sent: bytes) -> list[Reply | BaseException | None]:
    """The replies to requests that come at the same moment."""

    async def all_of_them() -> list[Reply | BaseException | None]:
        asked = (predictor.reply(JSON, one) for one in sent)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_requests_of_the_same_moment(
    worker: Worker, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are answered by one call of the model, each with its own rows, ids and log entry."""
    asked: list[int] = []

    def counted(model: SelfHealingModel, given: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(len(given))
        return predict_probabilities(model, given)

    monkeypatch.setattr("bento_selfheal.serving.answering.computing.predict_probabilities", counted)
    sent = [rows()[:1], rows()[:3], rows()[1:2]]
    before = worker.log.waiting
    replies = together(predictor, *(body(one) for one in sent))
    assert asked == [5]
    assert worker.log.waiting == before + 5
    answers = [json.loads(reply.body) for reply in replies if isinstance(reply, Reply)]
    for one, answer in zip(sent, answers, strict=True):
        expected = worker.package.baseline(one)
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    requests = {answer["prediction_ids"][0].split(".")[0] for answer in answers}
    assert len(requests) == 3


def test_a_bad_request_of_the_same_moment(picky: Worker, predictor: Predictor) -> None:
    """A row that the model cannot answer is refused, named, and spoils nobody else's request."""
    replies = together(predictor, *(body(coded(*codes)) for codes in [(1, 2), (3, 77), (4,)]))
    statuses = [reply.status for reply in replies if isinstance(reply, Reply)]
    assert statuses == [200, 400, 200]
    refused = replies[1]
    assert isinstance(refused, Reply)
    assert b"rows.1:" in refused.body


class Odd(torch.nn.Module):
    """A backbone that does something to the rows whose first feature is over 50."""

    def __init__(self, inner: torch.nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        odd = x[:, 0] > 50
        if self.how == "drops":
            x = x[~odd]
        if self.how == "resizes" and bool(odd.any()):
            x.resize_(1, x.shape[1])
        if self.how == "nan":
            x = torch.where(odd[:, None], torch.nan, x)
        if self.how == "fails":
            x = x[:0]
        out: torch.Tensor = self.inner(x)
        return out


def behind(worker: Worker, how: str) -> None:
    """Let an odd model serve."""
    champion = worker.follower.champion
    m = champion.model
    odd = SelfHealingModel(Odd(m.backbone, how), m.reflexive, m.head, m.output)
    worker.follower.champion = replace(champion, model=odd.requires_grad_(False))


@pytest.mark.parametrize(
    ("how", "said"), [("nan", "nan, which is no probability"), ("drops", "shape (3,) to 4 rows")]
)
def test_no_answer_for_a_row(worker: Worker, predictor: Predictor, how: str, said: str) -> None:
    """A row to which the model answers nothing, or no probability, is a 400 that names it."""
    behind(worker, how)
    reply = replied(predictor.reply(JSON, body(coded(1, 2, 77, 3))))
    assert reply.status == 400
    [detail] = json.loads(reply.body)["detail"]
    assert detail["loc"] == ["rows", 2]
    assert said in detail["msg"]
    assert worker.log.appended == 0
    assert replied(predictor.reply(JSON, body(coded(1, 2, 3)))).status == 200


@pytest.mark.parametrize("how", ["resizes", "fails"])
def test_a_wrong_number_of_answers(worker: Worker, predictor: Predictor, how: str) -> None:
    """Where no row alone is at fault it is a 500 that says what the model did, on each way, and
    nothing is logged."""
    behind(worker, how)
    reply = replied(predictor.reply(JSON, body(coded(1, 77, 3))))
    assert reply.status == 500
    assert "to 3 rows" in json.loads(reply.body)["error"]
    running = SimpleNamespace(_models=SimpleNamespace(current=SimpleNamespace(predictor=predictor)))
    slow = asyncio.run(cast(Any, PredictBase.predict).func(running, coded(1, 77, 3).tolist()))
    assert (slow.status_code, slow.body) == (500, reply.body)
    assert worker.log.appended == 0


def test_too_many_wait_for_the_model(
    worker: Worker, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that would wait for too long is a 503 that says when to come again, on each way,
    and nothing is logged."""

    async def overloaded() -> None:
        raise Overloaded("too many requests wait for the model")

    monkeypatch.setattr(Dispatcher, "answer", lambda *_: overloaded())
    reply = replied(predictor.reply(JSON, body(rows())))
    assert (reply.status, reply.headers) == (503, {"retry-after": "1"})
    running = SimpleNamespace(_models=SimpleNamespace(current=SimpleNamespace(predictor=predictor)))
    slow = asyncio.run(cast(Any, PredictBase.predict).func(running, rows().tolist()))
    assert (slow.status_code, slow.headers["retry-after"]) == (503, "1")
    assert slow.body == reply.body == b'{"error":"too many requests wait for the model"}'
    assert worker.log.appended == 0


def test_a_model_that_stops_an_iteration(worker: Worker, predictor: Predictor) -> None:
    """Whatever class of error a model raises, all who asked beside it are told."""

    class Stopping(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise StopIteration

    champion = worker.follower.champion
    m = champion.model
    stopping = SelfHealingModel(Stopping(), m.reflexive, m.head, m.output)
    worker.follower.champion = replace(champion, model=stopping)
    assert [type(e) for e in together(predictor, *[body(rows(1))] * 3)] == [RuntimeError] * 3


def test_what_came_is_logged(picky: Worker, predictor: Predictor) -> None:
    """A model that changes its rows in place does not change what is logged of them."""
    sent = coded(1, 2, 3)
    assert np.abs(sent).max() > 1
    replied(predictor.reply({"content-type": NPY}, npy(sent)))
    picky.log.flush()
    [record] = picky.store.read_log(0, 0)
    assert isinstance(record, PredictionRecord)
    assert record.features.tolist() == sent.tolist()
