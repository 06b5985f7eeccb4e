"""Classes that are too many for a header: asked for once, and never those of another model."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from bento_selfheal.client import AsyncClient, Client
from bento_selfheal.core.records import Label
from bento_selfheal.errors import ServiceUnavailable
from bento_selfheal.wire import npy
from bento_selfheal.wire.class_list import CLASSES_AT_HEADER, ClassList
from bento_selfheal.wire.messages import (
    NPY,
    REQUEST_HEADER,
    THRESHOLD_HEADER,
    VERIFIED_HEADER,
    VERSION_HEADER,
)

ROW = np.zeros((1, 2), dtype=np.float32)
LONGEST_OF_AIOHTTP = 8190


class Model:
    """What one of a service's models answers about any row: its last class.

    Args:
        classes: Its classes.
        answered_by: The model that answers `/classes`, where another one is served since.
    """

    def __init__(self, classes: list[Label], answered_by: Model | None = None) -> None:
        self.classes = ClassList(classes)
        self.lists_asked = 0
        self._answered_by = answered_by or self

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if path == "/predict":
            said = {
                REQUEST_HEADER: "abc", THRESHOLD_HEADER: "0.5", VERIFIED_HEADER: "true",
                VERSION_HEADER: "1", "Content-Type": NPY, **self.classes.headers,
            }  # fmt: skip
            chances = np.zeros((1, len(self.classes.classes)), dtype=np.float32)
            chances[0, -1] = 1
            return 200, said, npy.dump(chances)
        self.lists_asked += 1
        known = self._answered_by.classes
        if path != f"/{known.headers[CLASSES_AT_HEADER]}":
            return 404, {}, b'{"error": "other classes"}'
        body = {"digest": known.digest, "classes": list(known.classes)}
        return 200, {}, json.dumps(body).encode()


@contextmanager
def serving(model: Model) -> Iterator[str]:
    """A real server of the model, by its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, content = model.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def names(count: int) -> list[Label]:
    return [f"class {n:05d} größer " + "y" * 60 for n in range(count)]


@pytest.mark.parametrize("count", [3, 455, 5000])
def test_however_many_classes(count: int) -> None:
    """Both clients name the class, ask for a long list once, and no header passes 8,190 bytes."""
    model = Model(names(count))
    assert max(map(len, model.classes.headers.values())) < LONGEST_OF_AIOHTTP

    async def predicted(url: str) -> list[Label]:
        async with AsyncClient(url) as client:
            return [(await client.predict(ROW)).decisions[0] for _ in range(3)]

    with serving(model) as url:
        with Client(url) as client:
            several = [client.predict(ROW).decisions[0] for _ in range(3)]
        assert several == asyncio.run(predicted(url)) == [names(count)[-1]] * 3
    assert model.lists_asked == (0 if count == 3 else 2)  # by each client


def test_a_model_that_was_replaced_meanwhile() -> None:
    """The answer of one model is never read by the classes of the next one."""
    model = Model(names(500), answered_by=Model(names(501)))
    with (
        serving(model) as url,
        Client(url, retry_seconds=0) as client,
        pytest.raises(ServiceUnavailable, match=r"404 .*other classes"),
    ):
        client.predict(ROW)


def test_a_digest_names_the_classes() -> None:
    """Other classes, other types and another order are another list."""
    lists: list[list[Label]] = [[1, 2], [2, 1], ["1", "2"], ["1, 2"], [1, 2, 3]]
    assert len({ClassList(one).digest for one in lists}) == len(lists)
    assert ClassList([1, 2]).digest == ClassList((1, 2)).digest
