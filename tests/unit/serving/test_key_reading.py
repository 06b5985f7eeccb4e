"""Own keys at `/predict` and `/feedback`: read from every body, refused by place, and each
token's own."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from answering import predictor_of, quiet_worker
from steps import Item

from bento_selfheal.client.bodies import body_of
from bento_selfheal.core.records import FeedbackOutcome, FeedbackRecord, PredictionRecord
from bento_selfheal.errors import InvalidInput
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.answering.predictor import Predictor
from bento_selfheal.serving.http.auth import ASKED_BY, NOBODY
from bento_selfheal.serving.http.replies import Reply
from bento_selfheal.serving.reading.keys import KeyReader
from bento_selfheal.serving.worker import Worker
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.wire import arrow
from bento_selfheal.wire.messages import ARROW, KEYS_HEADER, NPY, FeedbackItem

READER = KeyReader("ab" * 32)
KEYS = ["tx-1", "größer", "17"]


@pytest.fixture
def worker(package: Package, tmp_path: Path) -> Iterator[Worker]:
    with quiet_worker(package, tmp_path / "state") as worker:
        yield worker


@pytest.fixture
def predictor(worker: Worker) -> Predictor:
    return predictor_of(worker)


def rows(n: int = 3) -> Any:
    return article_rows(n, 1.0, np.random.default_rng(1)).rows


def ask(predictor: Predictor, body: bytes, kind: str, **headers: str) -> Reply:
    given = {"content-type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
    reply = asyncio.run(predictor.reply(given, body))
    assert reply is not None
    return reply


def logged(worker: Worker) -> PredictionRecord:
    worker.log.flush()
    newest = worker.store.read_log(0, 0, 10_000)[-1]
    assert isinstance(newest, PredictionRecord)
    return newest


def bodies() -> dict[str, tuple[bytes, str, dict[str, str]]]:
    """The same rows and keys, as each kind of body holds them."""
    file = io.BytesIO()
    np.save(file, rows())
    table = dict(zip(ARTICLE_FEATURES, rows().T, strict=True))
    column = pa.table({**table, KEYS_HEADER: KEYS})
    dictionary = column.set_column(10, KEYS_HEADER, pa.array(KEYS).dictionary_encode())
    sent = body_of(rows(), keys=KEYS), body_of(pa.table(table), keys=pa.array(KEYS))
    return {
        "JSON": (json.dumps({"rows": rows().tolist(), "keys": KEYS}).encode(), "", {}),
        "an integer": (
            json.dumps({"rows": rows().tolist(), "keys": [*KEYS[:2], 17]}).encode(), "", {}
        ),
        "NumPy": (file.getvalue(), NPY, {KEYS_HEADER: json.dumps(KEYS)}),
        "Arrow": (arrow.dump(column), ARROW, {}),
        "a dictionary": (arrow.dump(dictionary), ARROW, {}),
        "the client's array": (sent[0].content, sent[0].kind, dict(sent[0].headers)),
        "the client's table": (sent[1].content, sent[1].kind, dict(sent[1].headers)),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(bodies()))
def test_every_body_carries_keys(predictor: Predictor, worker: Worker, name: str) -> None:
    """Whatever body brings them, the same keys are logged with the same rows, as hashes alone."""
    body, kind, headers = bodies()[name]
    reply = ask(predictor, body, kind, **headers)
    assert reply.status == 200, reply.body
    record = logged(worker)
    assert record.keys == worker.keys.read(KEYS, 3, NOBODY)
    assert record.features.tobytes() == rows().tobytes()
    assert b"tx-1" not in record.keys


def test_large_headers_become_json() -> None:
    """More keys than proxies take in a header go as JSON with the rows; gaps are null there."""
    table = rows(700)
    table[1, 2] = np.nan
    body = body_of(table, keys=np.arange(10_000_000, 10_000_700))
    assert (body.kind, dict(body.headers)) == ("application/json", {})
    given = json.loads(body.content)
    assert (given["keys"][-1], given["rows"][1][2]) == (10_000_699, None)
    assert body_of(rows(2), keys=["a", "b"]).kind == NPY


@pytest.mark.parametrize(
    ("keys", "loc", "said"),
    [
        ("tx-1", ("keys",), "a list of keys"),
        (["a", "b"], ("keys",), "2 keys for 3 rows"),
        (["a", "b", "c", "d"], ("keys",), "4 keys for 3 rows"),
        (["a", "b", "a"], ("keys", 2), "key of row 0"),
        (["a", 17, "17"], ("keys", 2), "key of row 1"),
        (["a", "", "c"], ("keys", 1), "1 to 200 characters"),
        (["a", "b", "x" * 201], ("keys", 2), "1 to 200 characters"),
        (["a", None, "c"], ("keys", 1), "got None"),
        ([True, "b", "c"], ("keys", 0), "got True"),
        (["a", 1.5, "c"], ("keys", 1), "got 1.5"),
        (["a", "b\0", "c"], ("keys", 1), "1 to 200 characters"),
        (["a", "b", "\ud800"], ("keys", 2), "1 to 200 characters"),
    ],
)
def test_bad_keys_are_refused(keys: Any, loc: tuple[Any, ...], said: str) -> None:
    """Keys that are none, that are missing, or that come twice are refused with their place."""
    with pytest.raises(InvalidInput, match=said) as refused:
        READER.read(keys, 3, NOBODY)
    assert refused.value.loc == loc


def test_refused_over_http(predictor: Predictor, worker: Worker) -> None:
    """A request with a bad key is answered 400 with its place, and nothing of it is logged."""
    body = json.dumps({"rows": rows().tolist(), "keys": ["a", "b", "a"]}).encode()
    reply = ask(predictor, body, "application/json")
    assert (reply.status, json.loads(reply.body)["detail"][0]["loc"]) == (400, ["keys", 2])
    header = ask(predictor, bodies()["NumPy"][0], NPY, **{KEYS_HEADER: "tx-1"})
    assert (header.status, json.loads(header.body)["detail"][0]["loc"]) == (400, ["keys"])
    worker.log.flush()
    assert worker.store.read_log(0, 0) == []


def asked_by(predictor: Predictor, token: str, keys: list[str]) -> None:
    """Predict rows under keys, with a token."""

    async def once() -> None:
        ASKED_BY.set(token)
        given = json.dumps({"rows": rows(len(keys)).tolist(), "keys": keys}).encode()
        reply = await predictor.reply({"content-type": "application/json"}, given)
        assert reply is not None
        assert reply.status == 200

    asyncio.run(once())


def accepted(answer: Any) -> tuple[int, int]:
    return answer.counts[FeedbackOutcome.ACCEPTED], answer.waiting


def by_key(key: str, label: int = 1, **more: Any) -> Item:
    return Item(None, label, key=key, **more)


def test_keys_belong_to_the_token(predictor: Predictor, worker: Worker) -> None:
    """Two tokens may use the same key: each labels its own prediction, and what one asks or labels
    under another's key changes nothing for the other."""
    asked_by(predictor, "shop", ["tx-1"])
    asked_by(predictor, "bank", ["tx-2", "tx-1"])
    worker.log.flush()
    first, second = (e.request for e in worker.store.read_log(0, 0))
    assert accepted(worker.feedback.accept([by_key("tx-1", 0)], None, "bank")) == (1, 0)
    assert accepted(worker.feedback.accept([by_key("tx-1")], None, "shop")) == (1, 0)
    assert accepted(worker.feedback.accept([by_key("tx-2")], None, "shop")) == (1, 1)
    given = [e for e in worker.store.read_log(0, 0) if isinstance(e, FeedbackRecord)]
    assert [(e.request, e.row, e.label) for e in given[:2]] == [(second, 1, 0), (first, 0, 1)]


def test_feedback_names_keys(predictor: Predictor, worker: Worker) -> None:
    """A conflict names the key; what is accepted goes to the monitor under the prediction's id, as
    a label by id does."""
    asked_by(predictor, NOBODY, ["tx-1", "tx-2"])
    record = logged(worker)
    worker.feedback.accept([by_key("tx-2"), by_key("tx-9")], None)
    assert worker.monitor is not None
    labelled = worker.monitor._queue[-1]
    token = worker.signer.token_of(record.request, 2)
    assert labelled.ids == [f"{token}.1", None]  # type: ignore[union-attr]
    answer = worker.feedback.accept([by_key("tx-2", 0)], None)
    assert answer.conflicts == [
        {"item": 0, "prediction_id": None, "key": "tx-2", "given": 0, "kept": 1}
    ]


@pytest.mark.parametrize("more", [{"prediction_id": "x.0"}, {"key": None}])
def test_one_name_each(worker: Worker, more: dict[str, Any]) -> None:
    """An item that names its row twice, or not at all, is refused."""
    item = Item(**{"prediction_id": None, "label": 1, "key": "tx-1", **more})
    with pytest.raises(InvalidInput, match="one of prediction_id, key and features"):
        worker.feedback.accept([item], None)


def test_integers_are_keys_too() -> None:
    """An integer is the key of its text at `/feedback` as well; a boolean is none."""
    assert FeedbackItem(key=17, label=1).key == "17"  # type: ignore[arg-type]
    for bad in (True, "", 1.5, "x" * 201, "a\0"):
        with pytest.raises(ValueError, match="key"):
            FeedbackItem(key=bad, label=1)  # type: ignore[arg-type]
