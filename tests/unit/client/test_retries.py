"""The client's tries and errors, against an HTTP server that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from bento_selfheal.client import AsyncClient, Client
from bento_selfheal.errors import (
    CommandError,
    InvalidInput,
    ServiceError,
    ServiceUnavailable,
    SettingsError,
    StoreError,
)
from bento_selfheal.simulation.server import free_port
from bento_selfheal.wire.messages import FeedbackItem

STATUS = (200, {}, {"state": "HEALTHY"})
COMMAND = (200, {}, {"command": "heal", "seq": 1})
AWAY = (503, {"Retry-After": "0"}, {"error": "cannot write to the store"})
DROPPED = (0, {}, None)
"""The connection is closed with no answer."""


@dataclass
class Told:
    """A server with the answers that it is to give, the last one for good."""

    url: str
    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


@pytest.fixture
def told() -> Iterator[Told]:
    """A real server on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.times.append(time.monotonic())
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.asked.append((self.path, body))
            many = len(server.answers) > 1
            status, headers, said = server.answers.pop(0) if many else server.answers[0]
            if not status:
                return
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Told(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        http.shutdown()
        thread.join()


@pytest.fixture
def client(told: Told) -> Iterator[Client]:
    with Client(told.url, retry_seconds=20) as client:
        yield client


def test_light() -> None:
    """Importing the client, or the commands that only ask a service, loads neither torch nor
    BentoML nor a server's libraries."""
    heavy = {"torch", "bentoml", "_bentoml_sdk", "sqlalchemy", "starlette", "fastapi", "pyarrow"}
    code = (
        "import sys, bento_selfheal.client, bento_selfheal.cli.main, bento_selfheal.cli.output\n"
        "from bento_selfheal import AsyncClient, Client, FeedbackItem\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_tries_again(told: Told, client: Client) -> None:
    """503, 429 and a dropped connection are tried again; what was sent is sent once more."""
    counts = {"accepted": 1, "already_known": 0, "unknown": 0, "unmatched": 0, "in_conflict": 0,
              "unknown_ids": [], "conflicts": []}  # fmt: skip
    told.answers = [AWAY, (429, {}, {"error": "too many"}), DROPPED, (200, {}, counts)]
    items = (FeedbackItem(prediction_id=i, label=np.int64(1)) for i in ["a.0"])
    assert client.feedback(items).accepted == 1
    assert len(told.asked) == 4
    assert set(told.asked) == {("/feedback", told.asked[0][1])}
    sent = {"label": 1, "prediction_id": "a.0", "corrects": False}
    assert json.loads(told.asked[0][1]) == {"items": [sent]}


@pytest.mark.parametrize("date", [False, True])
def test_waits_as_asked(told: Told, client: Client, date: bool) -> None:
    """The next try comes no sooner than Retry-After says, in seconds or as a date."""
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    told.answers = [(503, {"Retry-After": when if date else "1"}, {}), STATUS]
    assert client.status() == {"state": "HEALTHY"}
    assert told.times[1] - told.times[0] >= 0.9


def test_gives_up(told: Told) -> None:
    """When the time for tries is over the error says where and what; with none there is one try."""
    told.answers = [AWAY]
    with Client(told.url, retry_seconds=0.5) as client:
        with pytest.raises(StoreError, match=r"503 .*cannot write to the store") as gone:
            client.status()
        assert isinstance(gone.value, ServiceUnavailable)
        assert len(told.asked) > 2
    told.asked.clear()
    with Client(told.url, retry_seconds=0) as client, pytest.raises(ServiceUnavailable):
        client.status()
    assert len(told.asked) == 1
    nobody = f"http://127.0.0.1:{free_port()}"
    with (
        Client(nobody, retry_seconds=0.2) as client,
        pytest.raises(ServiceUnavailable, match=f"{nobody}: ConnectError"),
    ):
        client.status()


def test_a_long_wait_is_not_begun(told: Told, client: Client) -> None:
    """A Retry-After beyond the time for tries ends them at once."""
    told.answers = [(503, {"Retry-After": "3600"}, {})]
    with pytest.raises(ServiceUnavailable) as gone:
        client.status()
    assert gone.value.retry_after == 3600
    assert len(told.asked) == 1


DETAIL = {"loc": ["rows", 1, "V14"], "msg": "no", "type": "x"}
BODY = {"error": "rows.1.V14: no", "detail": [DETAIL]}
FASTAPI = {"detail": [{"loc": ["body", "version"], "msg": "no int", "type": "y", "input": "five"}]}
REFUSALS: dict[str, tuple[tuple[int, dict[str, str], Any], type[Exception], str]] = {
    "our own": ((400, {}, BODY), InvalidInput, r"rows\.1\.V14: no"),
    "too many": ((413, {}, BODY), InvalidInput, r"rows\.1\.V14: no"),
    "FastAPI's": ((422, {}, FASTAPI), InvalidInput, r"body\.version: no int \(got 'five'\)"),
    "conflict": ((409, {}, {"error": "version: 3 serves already"}), CommandError, "3 serves"),
    "not found": ((404, {}, {"detail": "Not Found"}), ServiceError, "404"),
    "other 4xx": ((415, {}, [{"error": "pickle"}]), ServiceError, "415 .*pickle"),
    "unforeseen": ((500, {}, {"error": "see the log"}), ServiceError, "500 .*see the log"),
    "a proxy's": ((502, {}, b"<html>"), ServiceError, "502 <html>"),
    "moved": ((302, {"Location": "/"}, b""), ServiceError, "302"),
    "another server": ((200, {}, b"<html>hello"), ServiceError, "not an answer of bento-selfheal"),
    "other JSON": ((200, {}, {"hello": 1}), ServiceError, "not an answer of bento-selfheal"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(told: Told, client: Client, case: str) -> None:
    """What is no use trying again is raised at the first answer, in the server's words."""
    answer, error, words = REFUSALS[case]
    told.answers = [answer]
    with pytest.raises(error, match=words):
        client.predict([[1.0]])
    assert len(told.asked) == 1


@pytest.mark.parametrize(
    ("call", "tries"),
    [(Client.heal, 1), (Client.rollback, 1), (Client.pause, 2), (Client.resume, 2)],
)
def test_what_may_have_been_done(
    told: Told, client: Client, call: Callable[[Client], Any], tries: int
) -> None:
    """A heal or rollback whose answer was lost is not asked for again; a pause is."""
    told.answers = [DROPPED, COMMAND]
    if tries == 1:
        with pytest.raises(ServiceUnavailable):
            call(client)
    else:
        call(client)
    assert len(told.asked) == tries


def test_what_cannot_have_been_done(told: Told, client: Client) -> None:
    """A heal that the service refused for now is asked for again."""
    told.answers = [AWAY, COMMAND]
    assert client.heal().seq == 1


def test_values_reach_the_service(told: Told, client: Client) -> None:
    """NaN, NumPy's numbers and tables that are no numbers go as JSON, for the service to judge."""
    told.answers = [(400, {}, BODY)]
    mixed = np.asarray([[1.0, "x"]], dtype=object)
    for rows in ([[float("nan"), np.float32(0.5)]], mixed, [{"V14": np.int64(3)}]):
        with pytest.raises(InvalidInput):
            client.predict(rows)  # type: ignore[arg-type]
    bodies = [json.dumps(json.loads(body)) for _, body in told.asked]
    assert bodies == [
        '{"rows": [[NaN, 0.5]]}', '{"rows": [[1.0, "x"]]}', '{"rows": [{"V14": 3}]}'
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="JSON cannot carry"):
        client.predict(object())  # type: ignore[arg-type]


def test_no_url() -> None:
    """An address without http:// is refused by name before anything is sent."""
    for make in (Client, AsyncClient):
        with pytest.raises(SettingsError, match="url: 'localhost:3000'"):
            make("localhost:3000")


def test_async(told: Told) -> None:
    """The async client tries again and refuses alike, and waits without blocking the loop."""
    told.answers = [AWAY, DROPPED, (503, {"Retry-After": "1"}, {}), STATUS]

    async def both() -> tuple[dict[str, Any], float]:
        async with AsyncClient(told.url) as client:
            asked = asyncio.create_task(client.status())
            began, longest = time.monotonic(), 0.0
            while not asked.done():
                await asyncio.sleep(0.01)
                longest, began = max(longest, time.monotonic() - began), time.monotonic()
            return await asked, longest

    status, longest = asyncio.run(both())
    assert status == {"state": "HEALTHY"}
    assert len(told.asked) == 4
    assert longest < 0.5

    async def refused() -> None:
        async with AsyncClient(told.url) as client:
            await client.predict([[1.0]])

    told.answers = [(400, {}, BODY)]
    with pytest.raises(InvalidInput, match="V14"):
        asyncio.run(refused())
