"""Labels as CSV, Parquet and Arrow at `/feedback`: the answers of JSON, by the table's rows."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from answering import quiet_worker

from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.http.auth import ASKED_BY, NOBODY
from bento_selfheal.serving.http.rate_limit import LabelRateLimit
from bento_selfheal.serving.http.replies import Reply
from bento_selfheal.serving.label_taker import LabelTaker
from bento_selfheal.serving.worker import Worker
from bento_selfheal.telemetry.spans import Telemetry
from bento_selfheal.wire import arrow
from bento_selfheal.wire.messages import ARROW, BAD_ROWS_HEADER, CSV, PARQUET, REPORT

TABLE = {"key": ["a", "b", "c"], "label": [1, 0, 1], "source": ["desk", None, "desk"]}


@pytest.fixture
def worker(package: Package, tmp_path: Path) -> Iterator[Worker]:
    with quiet_worker(package, tmp_path / "state") as worker:
        yield worker


@pytest.fixture
def taker(worker: Worker) -> LabelTaker:
    meters: Any = SimpleNamespace(feedback=lambda counts: None)
    return LabelTaker(
        worker.feedback, LabelRateLimit(worker.store, 0, 0), Telemetry(), meters, 5, {}
    )


def csv_of(table: dict[str, list[Any]]) -> bytes:
    rows = zip(*table.values(), strict=True)
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join([",".join(table), *lines]).encode()


def parquet_of(table: dict[str, list[Any]]) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(table), file)
    return file.getvalue()


BODIES = {CSV: csv_of, PARQUET: parquet_of, ARROW: lambda table: arrow.dump(pa.table(table))}
by_kind = pytest.mark.parametrize("kind", list(BODIES))


def send(taker: LabelTaker, kind: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    reply = asyncio.run(as_token(taker, NOBODY, {"content-type": f"{kind}; x=y", **headers}, body))
    return reply.status, json.loads(reply.body)


async def as_token(taker: LabelTaker, name: str, headers: dict[str, str], body: bytes) -> Reply:
    ASKED_BY.set(name)
    return await taker.take_table(headers, body)


def kept(worker: Worker) -> list[FeedbackRecord]:
    return [e for e in worker.store.read_log(0, 0, 1000) if isinstance(e, FeedbackRecord)]


@by_kind
def test_a_table_counts_as_json_does(taker: LabelTaker, worker: Worker, kind: str) -> None:
    """The labels of a table are kept with their sources, and count once, also sent as JSON."""
    status, answer = send(taker, kind, BODIES[kind](TABLE))
    assert (status, answer["accepted"], answer["waiting"]) == (200, 3, 3)
    assert [(r.label, r.source) for r in kept(worker)] == [(1, "desk"), (0, None), (1, "desk")]
    assert kept(worker)[0].key == worker.keys.hash_one("a", NOBODY)
    assert send(taker, kind, BODIES[kind](TABLE))[1]["already_known"] == 3


@by_kind
def test_bad_rows(taker: LabelTaker, worker: Worker, kind: str) -> None:
    """One bad cell refuses all with its row and value; asked to, the good rows are kept and the
    others told by their numbers."""
    table = {"key": ["a", "", "c", "d"], "label": ["1", "1", "maybe", "0"]}
    status, answer = send(taker, kind, BODIES[kind](table))
    assert (status, answer["detail"][0]["loc"]) == (400, ["items", 1, "key"])
    assert kept(worker) == []
    status, answer = send(taker, kind, BODIES[kind](table), **{BAD_ROWS_HEADER: REPORT})
    assert (status, answer["accepted"]) == (200, 2)
    assert answer["rejected"] == [
        {"item": 1, "reason": "key: it is empty"},
        {"item": 2, "reason": "label: 'maybe' is not a class; classes are 0, 1"},
    ]


def test_numbers_of_rows_behind_bad_ones(taker: LabelTaker) -> None:
    """Rows that cannot be read shift no number: of the conflicts and of what is rejected later."""
    send(taker, CSV, b"key,label\nb,0\n")
    body = b"key,label\na,1,2\nb,1\nc,x\n"
    _, answer = send(taker, CSV, body, **{BAD_ROWS_HEADER: REPORT})
    assert [one["item"] for one in answer["conflicts"]] == [1]
    assert [(r["item"], r["reason"][:9]) for r in answer["rejected"]] == [
        (0, "3 cells w"), (2, "label: 'x"),
    ]  # fmt: skip


@by_kind
def test_limit(taker: LabelTaker, kind: str) -> None:
    """More rows than a request may have are 413, none are 400."""
    many = {"key": [str(n) for n in range(6)], "label": [1] * 6}
    assert send(taker, kind, BODIES[kind](many))[0] == 413
    none: dict[str, list[Any]] = {"key": [], "label": []}
    assert send(taker, kind, BODIES[kind](none))[0] == 400


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (CSV, b"key,y\na,1\n", "unknown column 'y'"),
        (CSV, b"key\na\n", "label and key or prediction_id are needed"),
        (CSV, b"key,label,key\na,1,b\n", "occurs more than once"),
        (CSV, b"", "it is empty"),
        (PARQUET, b"key,label\na,1\n", "cannot be read as Parquet"),
        (ARROW, b"key,label\na,1\n", "no table of labels"),
    ],
)
def test_no_table_of_labels(taker: LabelTaker, kind: str, body: bytes, said: str) -> None:
    """What is no table of labels is 400 and says what is missing."""
    status, answer = send(taker, kind, body)
    assert status == 400
    assert said in answer["error"]


def test_sources_belong_to_the_token(taker: LabelTaker, worker: Worker) -> None:
    """With a token its name stands before each source, as in JSON, and its keys are its own."""
    asyncio.run(as_token(taker, "shop", {"content-type": CSV}, csv_of(TABLE)))
    assert [r.source for r in kept(worker)] == ["shop/desk", "shop", "shop/desk"]
    assert kept(worker)[0].key == worker.keys.hash_one("a", "shop")


def test_time(taker: LabelTaker, worker: Worker) -> None:
    """The log holds when a label was known; the future, and what the log would delete at once, is
    refused."""
    now = time.time()
    send(taker, CSV, f"key,label,time\na,1,{now - 3600:.3f}\n".encode())
    assert kept(worker)[0].time == pytest.approx(now - 3600, abs=0.01)
    for bad in (now + 3600, now - 400 * 86_400):
        status, answer = send(taker, CSV, f"key,label,time\nb,1,{bad}\n".encode())
        assert (status, answer["detail"][0]["loc"]) == (400, ["items", 0, "time"])
