"""A light model answers in the event loop, a heavy one outside it: nobody sets which is which."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.answering import dispatcher as dispatcher_module
from bento_selfheal.serving.answering.batching import THREAD
from bento_selfheal.serving.answering.computing import Computed, Computing, Request
from bento_selfheal.serving.answering.dispatcher import Dispatcher, rows_within
from bento_selfheal.serving.worker import Answer, Worker
from bento_selfheal.telemetry.spans import Telemetry

Rows = NDArray[np.float32]
WIDTH = 10


class Costly(Computing):
    """A model whose calls take what a test says, on a clock of the test's; notes who calls it."""

    def __init__(self, call: float, row: float) -> None:
        self.now = 0.0
        self.asked: list[tuple[str, int]] = []
        self._call, self._row = call, row

    def compute(self, rows: Rows, keys: bytes = b"") -> Computed:
        self.now += self._call + self._row * len(rows)
        self.asked.append((threading.current_thread().name, len(rows)))
        return Computed(None, rows, rows[:, 0])  # type: ignore[arg-type] # nobody asks for it

    def compute_all(self, requests: Sequence[Request]) -> list[Computed | Exception]:
        self.compute(np.concatenate([rows for rows, _ in requests]))
        return [Computed(None, rows, rows[:, 0]) for rows, _ in requests]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def rows(n: int) -> Rows:
    return np.arange(n * WIDTH, dtype=np.float32).reshape(n, WIDTH)


def recorded(computed: Computed, keys: bytes) -> Answer:
    """An answer without a log; only the event loop's thread may ask for it."""
    assert threading.current_thread() is threading.main_thread()
    return Answer("", computed.probabilities, computed.champion)


def dispatched(
    monkeypatch: pytest.MonkeyPatch, model: Costly, *, cores: int = 1, **settings: Any
) -> Dispatcher:
    monkeypatch.setattr(dispatcher_module.time, "perf_counter", lambda: model.now)
    made = Dispatcher(model, rows(3), recorded, Settings(**settings), cores)
    model.asked.clear()
    return made


async def answers(dispatcher: Dispatcher, *sizes: int) -> list[Answer]:
    found = await asyncio.gather(*(dispatcher.answer(rows(n)) for n in sizes))
    await dispatcher.close()
    return list(found)


@pytest.mark.parametrize(("call", "row"), [(0.005, 0.0001), (0.3, 0.0), (0.0005, 0.0001)])
def test_a_heavy_model(monkeypatch: pytest.MonkeyPatch, call: float, row: float) -> None:
    """A model of which 64 rows take over 5 ms is called outside the event loop's thread only, for
    requests of any size, and each request gets its own rows' answers."""
    model = Costly(call, row)
    dispatcher = dispatched(monkeypatch, model)
    assert dispatcher.heavy
    found = asyncio.run(answers(dispatcher, 1, 2, 500))
    assert [len(one.probabilities) for one in found] == [1, 2, 500]
    assert [count for _, count in model.asked] == [3, 500]
    assert all(name.startswith(THREAD) for name, _ in model.asked)


def test_a_light_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small requests of a moment share one call in the event loop and larger ones have their own;
    one that would hold the event loop for over 5 ms goes to the thread."""
    model = Costly(0.0002, 0.000002)
    dispatcher = dispatched(monkeypatch, model)
    assert not dispatcher.heavy
    found = asyncio.run(answers(dispatcher, 1, 64, 1000, 5000))
    assert [len(one.probabilities) for one in found] == [1, 64, 1000, 5000]
    here = threading.current_thread().name
    assert sorted(count for name, count in model.asked if name == here) == [65, 1000]
    assert [count for name, count in model.asked if name != here] == [5000]


@pytest.mark.parametrize(
    ("call", "settings", "threads"),
    [
        (0.1, {"workers": 2}, 4),
        (0.1, {"workers": 16}, 1),
        (0.1, {"model_threads": 3}, 3),
        (0.0001, {"workers": 2}, 1),
        (0.0001, {"model_threads": 3}, 3),
        (0.1, {"workers": 1, "device": "cuda"}, 1),
    ],
)
def test_threads_of_a_model(
    monkeypatch: pytest.MonkeyPatch, call: float, settings: dict[str, Any], threads: int
) -> None:
    """A heavy model takes its worker's share of 8 cores, a light one and one on a GPU a single
    thread, and the setting comes before both: in the thread that calls the model, too."""
    dispatcher = dispatched(monkeypatch, Costly(call, 0.0), cores=8, **settings)
    assert dispatcher.threads == threads
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [threads]


def test_a_model_that_fails_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that raises for the rows of its package counts as heavy, and the worker starts."""

    class Failing(Costly):
        def compute(self, rows: Rows, keys: bytes = b"") -> Computed:
            raise IndexError

    assert dispatched(monkeypatch, Failing(0.0, 0.0)).heavy


def test_the_demo_is_light(package: Package, tmp_path: Path) -> None:
    """The article's network, measured for real, keeps the event loop's path for 100 rows."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "state")
    prepare(settings)
    worker = Worker(settings, Telemetry())
    torch.set_num_threads(1)
    assert rows_within(0.005, worker.computing, worker.package.reference_rows) >= 100
    worker.feedback.stop()
    worker.store.close()
