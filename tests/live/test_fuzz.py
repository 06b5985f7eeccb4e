"""Whatever a client sends: an answer below 500, soon, and no memory that stays."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from live import Client, processes, served

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(5400)]

WIDTH = 10
SLOW_SECONDS = 10.0
GROWTH = 0.10
"""Of resident memory over all that is sent, once a tenth of it has been."""
ENDPOINTS = (
    "POST /predict", "POST /feedback", "GET /status", "GET /snapshots", "GET /promotions",
    "GET /events", "GET /history", "POST /rollback", "POST /heal", "POST /pause", "POST /observe",
    "POST /resume", "POST /forget", "POST /release", "POST /erase", "GET /review", "GET /classes",
    "GET /candidates", "POST /candidates/begin", "POST /candidates/withdraw",
    "POST /candidates/promote",
    "POST /thresholds",
)  # fmt: skip
JSON = {"content-type": "application/json"}
NPY = {"content-type": "application/x-npy"}


class Asked:
    """Counts answers, and sees how much memory the server holds."""

    def __init__(self, server: ServedService) -> None:
        self._server = server
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self._held: list[float] = []

    def note(self, status: int, seconds: float, what: str) -> None:
        """One answer."""
        self.statuses[status] += 1
        self.slowest = max(self.slowest, seconds)
        if self.statuses.total() % 100 == 0:
            self._held.append(sum(p.memory_info().rss for p in self._processes()) / 1e6)
        assert status < 500, f"{status}: {what}"
        assert seconds < SLOW_SECONDS, f"{seconds:.1f} s: {what}"

    def _processes(self) -> list[Any]:
        return processes(self._server, "SelfHealing") + processes(self._server, "HealingRunner")

    @property
    def figures(self) -> dict[str, Any]:
        warm = self._held[len(self._held) // 10 :] or [1.0]
        return {
            "requests": self.statuses.total(),
            "statuses": dict(sorted(self.statuses.items())),
            "slowest_seconds": round(self.slowest, 2),
            "memory_growth": round(warm[-1] / warm[0] - 1, 4),
        }


@pytest.fixture(scope="module")
def server(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedService]:
    """One worker, whose memory is looked at."""
    folder = tmp_path_factory.mktemp("fuzz")
    with served(home, package, folder, workers=1, log_megabytes=20) as server:
        _send_a_table_of_each_kind(server)
        yield server


def _send_a_table_of_each_kind(server: ServedService) -> None:
    """Have it load the libraries that it loads when it needs them: that is no leak."""
    parquet = io.BytesIO()
    pq.write_table(pa.table({"key": ["nobody"], "label": [1]}), parquet)
    for kind, body in (
        ("text/csv", b"key,label\nnobody,1\n"),
        ("application/vnd.apache.parquet", parquet.getvalue()),
    ):
        answer = httpx.post(
            f"{server.url}/feedback", content=body, headers={"content-type": kind}, timeout=30
        )
        answer.raise_for_status()


@pytest.fixture
def many(request: pytest.FixtureRequest) -> settings:
    """As many requests as were asked for."""
    return settings(
        max_examples=int(request.config.getoption("--requests")), deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_from_its_own_page(
    server: ServedService, many: settings, endpoint: str, record_fault: Callable[..., None]
) -> None:
    """What the OpenAPI page allows, and what it forbids, is answered below 500."""
    method, path = endpoint.split()
    schema = schemathesis.openapi.from_url(f"{server.url}/docs.json")
    cases = st.one_of(
        schema[path][method].as_strategy(generation_mode=mode)
        for mode in schemathesis.GenerationMode
    )
    asked, session = Asked(server), requests.Session()
    session.trust_env = False
    seen: list[Any] = []

    def send(case: Any) -> None:
        started = time.monotonic()
        response = case.call(session=session, timeout=3 * SLOW_SECONDS)
        asked.note(response.status_code, time.monotonic() - started, case.as_curl_command()[:2000])

    @many
    @given(case=cases)
    def ask(case: Any) -> None:
        seen.append(case)
        send(case)

    ask()
    # Where an endpoint takes little there are few different requests: they come again.
    for case in islice(cycle(seen), max(many.max_examples - len(seen), 0)):
        send(case)
    record_fault(f"schemathesis, {endpoint}", **asked.figures)
    _still_well(server, asked)


def test_every_endpoint_is_asked(server: ServedService) -> None:
    """No endpoint of ours on the OpenAPI page is left out above."""
    paths = httpx.get(f"{server.url}/docs.json").json()["paths"]
    ours = {f"{m.upper()} {p}" for p, item in paths.items() for m in item if m in ("get", "post")}
    assert ours - {f"GET {p}" for p in ("/livez", "/readyz", "/healthz", "/metrics")} == set(
        ENDPOINTS
    )


# -- rows that hypothesis makes ------------------------------------------------------------------

NUMBERS = st.floats() | st.integers() | st.floats(-5, 5)
ODD = st.none() | st.booleans() | st.text(max_size=5) | NUMBERS
ROWS = (
    st.lists(st.lists(NUMBERS, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=5)
    | st.lists(st.lists(ODD, max_size=WIDTH + 1), max_size=5)
    | st.lists(st.dictionaries(st.sampled_from([f"F{i}" for i in range(12)]), ODD), max_size=3)
    | st.recursive(ODD, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
BODIES = st.one_of(
    st.builds(lambda rows: json.dumps({"rows": rows}).encode(), ROWS),
    st.binary(max_size=500),
    st.text(max_size=200).map(lambda t: t.encode(errors="surrogatepass")),
)


def _npy(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    return held.getvalue()


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """A file of numbers that was cut, or one byte of which is another."""
    whole = bytearray(_npy(np.zeros((2, WIDTH), np.float32)))
    whole[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
    return bytes(whole[: draw(st.integers(0, len(whole)))])


ARRAYS = npst.arrays(
    st.one_of(
        npst.floating_dtypes(), npst.integer_dtypes(), npst.boolean_dtypes(),
        npst.complex_number_dtypes(), npst.unicode_string_dtypes(max_len=4),
        npst.datetime64_dtypes(),
    ),
    st.sampled_from([(1, WIDTH), (3, WIDTH)]) | npst.array_shapes(min_dims=0, max_dims=4),
)  # fmt: skip
IDS = st.text(max_size=40) | st.binary(min_size=1, max_size=30).map(lambda b: b.hex())
LABELS = st.integers() | st.booleans() | st.text(max_size=3) | st.floats() | st.none()


@st.composite
def _items(draw: st.DrawFn, good: list[str]) -> bytes:
    """Feedback, some of it on rows that were asked."""
    item = st.fixed_dictionaries(
        {"prediction_id": IDS | st.sampled_from(good), "label": LABELS | st.integers(0, 1)},
        optional={
            "source": st.text(max_size=70) | st.none(), "correct": ODD, "extra": ODD,
            "features": st.lists(ODD, max_size=WIDTH + 1),
        },
    )  # fmt: skip
    return json.dumps({"items": draw(st.lists(item, max_size=5))}).encode()


@pytest.mark.parametrize("kind", ["rows", "numpy file", "feedback"])
def test_made_by_hypothesis(
    server: ServedService, many: settings, kind: str, record_fault: Callable[..., None]
) -> None:
    """Rows, files and labels of any shape and value are answered below 500."""
    asked = Asked(server)
    with Client(server) as client:
        good = client.predict([[0.0] * WIDTH] * 20)["prediction_ids"]
        path, headers, bodies = {
            "rows": ("/predict", JSON, BODIES),
            "numpy file": ("/predict", NPY, ARRAYS.map(_npy) | _broken() | st.binary()),
            "feedback": ("/feedback", JSON, _items(good) | BODIES),
        }[kind]

        @many
        @given(body=bodies)
        def ask(body: bytes) -> None:
            started = time.monotonic()
            response = client.post(path, content=body, headers=headers)
            asked.note(response.status_code, time.monotonic() - started, repr(body)[:2000])

        ask()
    record_fault(f"hypothesis, {kind}", **asked.figures)
    _still_well(server, asked)


def _still_well(server: ServedService, asked: Asked) -> None:
    """It predicts, and holds no more than before."""
    with Client(server) as client:
        assert client.predict([[0.0] * WIDTH])["prediction_ids"]
    assert asked.figures["memory_growth"] <= GROWTH
