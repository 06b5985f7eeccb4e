"""The private parts of BentoML, tornado, prometheus_client and uvicorn are where they were, and do
what they did; a new version that moves one shows here."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bentoml
import pytest
import uvicorn
import uvicorn.config
from _bentoml_impl.serde import ALL_SERDE
from prometheus_client import CollectorRegistry, Histogram
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from tornado.ioloop import IOLoop, PeriodicCallback

from bento_selfheal import internals
from bento_selfheal.serving.http.slow_clients import PromptProtocol, serve_promptly


@pytest.mark.parametrize("name", internals.LATE)
def test_late_parts_are_there(name: str) -> None:
    """Each part of the server is in its module, and is handed on when it is asked for."""
    found = getattr(internals, name)
    assert found is getattr(importlib.import_module(internals.LATE[name]), name)


def test_the_server_is_imported_late() -> None:
    """Commands that serve nothing do not wait for the server's import."""
    code = (
        "import sys\nimport bento_selfheal.internals\n"
        f"print([m for m in {sorted(set(internals.LATE.values()))} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "_bentoml_impl.server.app" not in out.stdout
    with pytest.raises(AttributeError, match="nowhere"):
        internals.nowhere  # noqa: B018


def test_container() -> None:
    """BentoML's container gives the settings that are read of it."""
    container = internals.BentoMLContainer
    assert Path(container.bentoml_home.get()).name
    assert container.http.host.get()
    assert internals.tracing_sample_rate() == 0.0
    assert hasattr(container.tracer_provider.get(), "get_tracer")


def test_model_store(tmp_path: Path) -> None:
    """A model store of a folder is opened by the folder's path."""
    assert list(internals.ModelStore(tmp_path).list()) == []


def test_periodic_calls_outlive_a_clock_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor of `bentoml serve` goes on looking after a wall clock set back by an hour."""
    monkeypatch.setattr(IOLoop, "time", IOLoop.time)
    internals.supervise_by_monotonic_time()
    looks: list[float] = []

    async def looked(times: int) -> None:
        async with asyncio.timeout(10):
            while len(looks) < times:
                await asyncio.sleep(0.01)

    async def watch() -> None:
        supervisor = PeriodicCallback(lambda: looks.append(time.monotonic()), 10)
        supervisor.start()
        await looked(1)
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() - 3600)
        await looked(len(looks) + 5)
        supervisor.stop()

    asyncio.run(watch())


@bentoml.service
class Small:
    """A service as small as can be."""

    @bentoml.api
    def predict(self, rows: list[int]) -> int:
        return len(rows)


class Mounting:
    """Mounts an application where its subclasses are made, as PredictBase does."""

    def __init_subclass__(cls) -> None:
        internals.mount_below(cls, Starlette())


def test_mounted_apps() -> None:
    """BentoML serves what is mounted on the class that it decorates."""

    class Mounted(Mounting):
        @bentoml.api
        def predict(self, rows: list[int]) -> int:
            return len(rows)

    service = bentoml.service(Mounted)
    assert [path for _, path, _ in service.mount_apps] == ["/"]


def test_input_is_hidden() -> None:
    """An error of validation names the field and leaves the value out."""

    class Checked:
        @bentoml.api
        def predict(self, rows: list[int]) -> int:
            return len(rows)

    internals.hide_input(Checked.predict)
    with pytest.raises(ValueError, match="rows") as refused:
        Checked.predict.input_spec.model_validate({"rows": ["secret"]})
    assert "secret" not in str(refused.value)


def test_unknown_fields() -> None:
    """An input that BentoML read less of than was given is a validation error by field."""

    class Strict:
        @bentoml.api
        def predict(self, rows: list[int]) -> int:
            return len(rows)

    internals.refuse_unknown_fields(Strict.predict)
    assert Strict.predict.input_spec.model_validate({"rows": [1]}).rows == [1]
    with pytest.raises(ValidationError, match="ids"):
        Strict.predict.input_spec.model_validate({"rows": [1], "ids": [2]})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x\r\n"), ("multipart/form-data; boundary=x", b"nothing"),
        ("multipart/form-data; boundary=x", b"--x\r\n\xff:\r\n\r\n1\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x; charset=zzz",
         b'--x\r\nContent-Disposition: form-data; name="rows"\r\n\r\n\xff\r\n--x--\r\n'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1"),
        ("application/x-www-form-urlencoded", b"rows=" + b"[" * 100_000),
        ("application/x-www-form-urlencoded", b"rows=" + b"9" * 5000),
        ("application/x-www-form-urlencoded", b"&" * 2000 + b"a=b&" * 2000),
    ],
)  # fmt: skip
def test_a_bad_form(kind: str, body: bytes) -> None:
    """A form that no parser reads is a validation error, whatever the parser raises."""

    class Filled:
        @bentoml.api
        def predict(self, rows: list[int]) -> int:
            return len(rows)

    internals.refuse_bad_forms(Filled.predict)

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/predict", "app": None,
             "headers": [(b"content-type", kind.encode())]}  # fmt: skip
    serde = ALL_SERDE[kind.partition(";")[0]]()
    with pytest.raises(ValidationError):
        asyncio.run(Filled.predict.input_spec.from_http_request(Request(scope, receive), serde))


def test_application() -> None:
    """BentoML's application has the middleware that the fast path leaves out, by class, and
    request metrics of the names that are counted with."""
    app = Small.to_asgi()  # type: ignore[attr-defined]
    classes = [layer.cls for layer in app.user_middleware]
    for name in ("RunnerTrafficMetricsMiddleware", "ContextMiddleware", "TimeoutMiddleware"):
        assert getattr(internals, name) in classes, name
    assert all(hasattr(layer, "kwargs") and hasattr(layer, "args") for layer in app.user_middleware)
    assert any(getattr(route, "path", "") == "/predict" for route in app.routes)


def test_request_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics middleware is found in a built stack, and set up with the series and the labels
    that requests of the fast path are counted under."""
    kind: Any = internals.RunnerTrafficMetricsMiddleware
    set_up: list[Any] = []

    class Metrics(kind):  # type: ignore[misc]
        def _setup(self) -> None:
            set_up.append(self)

    app = Starlette(middleware=[Middleware(Metrics)])
    app.middleware_stack = app.build_middleware_stack()
    assert internals.request_metrics(app) is set_up[0]
    bare = Starlette()
    bare.middleware_stack = bare.build_middleware_stack()
    assert internals.request_metrics(bare) is None
    source = Path(importlib.import_module(kind.__module__).__file__ or "").read_text()
    for name in ("metrics_request_total", "metrics_request_duration", "http_response_code",
                 "metrics_last_request_timestamp", *internals.request_labels()):  # fmt: skip
        assert name in source, name


def test_observe_all() -> None:
    """Many values at once are what they are one by one."""
    values = [0.0, 0.1, 0.5, 0.50001, 2.0, 99.0]
    shown = []
    for at_once in (True, False):
        registry = CollectorRegistry()
        histogram = Histogram("h", "h", buckets=(0.1, 0.5, 2.0), registry=registry)
        if at_once:
            internals.observe_all(histogram, values)
        else:
            for value in values:
                histogram.observe(value)
        shown.append([
            (s.name, s.labels, s.value)
            for metric in registry.collect() for s in metric.samples if "created" not in s.name
        ])  # fmt: skip
    assert shown[0] == shown[1]


def test_metric_files(tmp_path: Path) -> None:
    """In multi-process mode a process's metrics lie in files that carry its number."""
    code = (
        "import os, prometheus_client as p\np.Counter('c', 'c').inc()\n"
        "p.Gauge('g', 'g', multiprocess_mode='livemin').set(1)\nprint(os.getpid())"
    )
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    files = set(internals.metric_files(tmp_path, int(out.stdout)))
    assert files == set(tmp_path.iterdir())
    assert len(files) == 2


def test_container_variable() -> None:
    """BentoML's process watcher behaves otherwise where its images set this variable."""
    folder = Path(bentoml.__file__).parent
    users = [p for p in folder.rglob("*.py") if internals.CONTAINERIZED in p.read_text("utf-8")]
    assert users


def test_unforeseen_error() -> None:
    """BentoML answers what nobody foresaw in the words that the fast path repeats."""
    import _bentoml_impl.server.app as server

    message = internals.UNFORESEEN.decode().split('"')[3]
    assert message in Path(server.__file__).read_text("utf-8")


async def _served(app: Any, request: bytes) -> bytes:
    """The bytes that a real server answers a request with."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    server.should_exit = True
    await running
    return answer


def test_slow_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn serves by the protocol that is put in its table, and tells it when a request begins
    and is whole: one whose body does not come is closed with 408."""
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "")
    monkeypatch.setattr(PromptProtocol, "seconds", 30.0)
    counted: list[int] = []
    serve_promptly(0.2, counted.append)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    slow = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc"
    assert b"408 Request Timeout" in asyncio.run(_served(app, slow))
    assert counted == [408]
