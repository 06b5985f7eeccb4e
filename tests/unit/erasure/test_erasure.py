"""A row that is erased leaves no trace: what was learned is, to the bit, what it would have been."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erasing import (
    BEGAN,
    Service,
    differing,
    hash_of,
    holders,
    label_of,
    learned,
    without,
)
from rigs import drifting
from steps import BATCH, LAZY, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord, PromotionKind
from bento_selfheal.packaging.model_store import bentoml_home
from bento_selfheal.packaging.package import Package

REQUEST = 5
NEEDLE = (7.1234567e-3, -8.7654321e-3, 3.1415927e-3)
"""Values that no other row has."""
Services = Callable[..., Service]


@pytest.fixture
def services(package: Package, tmp_path: Path) -> Iterator[Services]:
    running: list[Service] = []

    def new(name: str, **more: Any) -> Service:
        settings = Settings(
            model=package.tag, state_dir=tmp_path / name, batch_size=BATCH, replay_rate=LAZY,
            lease_seconds=60, **more,
        )  # fmt: skip
        running.append(Service(settings))
        return running[-1]

    yield new
    for service in running:
        service.close()


def stream(needle: int, clean: int = 150, drifted: int = 250) -> tuple[Any, Any]:
    """Rows and labels, of which one has values of its own."""
    rows, labels = drifting(clean=clean, drifted=drifted)
    rows = rows.astype(np.float32).copy()
    rows[needle, : len(NEEDLE)] = NEEDLE
    return rows, labels


def play(
    service: Service, rows: Any, labels: Any, *, unlabelled: tuple[int, ...] = (), pause: float = 1.0
) -> None:
    """Ask for all rows, a few at a time, and label them ten requests later, each by its key."""
    owed: list[FeedbackRecord] = []
    for at in range(0, len(rows), REQUEST):
        now = BEGAN + pause * at / REQUEST
        numbers = range(at, min(at + REQUEST, len(rows)))
        service.ask(rows[numbers], [f"k{n}" for n in numbers], now)
        owed += [label_of(f"k{n}", int(labels[n]), now) for n in numbers if n not in unlabelled]
        if len(owed) >= BATCH:
            service.write(owed)
            service.step()
            owed = []
    if owed:
        service.write(owed)
    service.step()


def erase_and_compare(services: Services, service: Service, key: str, **more: Any) -> Service:
    """Erase a row, and compare with a service that never saw it."""
    assert service.store.erase(key=hash_of(key), by="ana") is not None
    service.step()
    never = services("never", **more)
    without(never, service.written, key)
    work_off(never.runner)
    assert differing(learned(service), learned(never)) == []
    return never


@pytest.mark.parametrize("number", [3, 160, 399], ids=["long ago", "in the buffer", "newest"])
def test_labelled(services: Services, number: int) -> None:
    """Wherever the row stands in the logs, what is learned is what it would be without it; what
    served and had seen it serves no more."""
    service = services("one")
    play(service, *stream(number))
    serving = service.store.promotions()[-1]
    assert serving.kind is not PromotionKind.INITIAL, "something was promoted that saw the row"
    before = learned(service)
    erase_and_compare(services, service, f"k{number}")
    assert differing(learned(service), before) != []
    assert service.store.promotions()[-1].by == "ana"


def test_leaves_no_bytes(services: Services, home: Path, tmp_path: Path) -> None:
    """No file of the store, the model store or the exports holds the row's values or its key."""
    service = services("one", retrain_batches=1)
    rows, labels = stream(160)
    play(service, rows, 1 - labels)
    exports = service.settings.state_dir / "exports"
    exports.mkdir(exist_ok=True)
    values = rows[160].tobytes()
    needles = {"values": values[:12], "half": rows[160, :3].astype("<f2").tobytes(),
               "key": hash_of("k160"), "hex": hash_of("k160").hex().encode()}  # fmt: skip
    folders = service.settings.state_dir, bentoml_home()
    assert {name for name, _ in holders(needles, *folders)} >= {"values", "key"}
    assert service.store.erase(key=hash_of("k160"), by="ana") is not None
    assert list(holders(needles, *folders)) == []
    service.step()
    assert list(holders(needles, *folders)) == []
