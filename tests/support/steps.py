"""A worker and a runner stepped by hand: labelled batches go in, steps are taken to the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bento_selfheal.runner.runner import Runner
from bento_selfheal.serving.worker import Worker

BATCH = 50
LAZY = 0.01
"""A replay rate at which heals are short: for tests that look at what happens, not at how well."""


@dataclass
class Item:
    """An item of feedback as the service passes it on."""

    prediction_id: str | None
    label: int
    source: str | None = None
    features: Any = None
    key: str | None = None
    corrects: bool = False
    time: float | None = None
    retract: bool = False


def send(worker: Worker, rows: Any, labels: Any, *, drain: Runner | None = None) -> list[str]:
    """Predict and give every label, a batch at a time; the runner works off each one."""
    sent: list[str] = []
    for at in range(0, len(rows), BATCH):
        ids = worker.answer(rows[at : at + BATCH]).ids
        worker.log.flush()
        items = [Item(i, int(v)) for i, v in zip(ids, labels[at : at + BATCH], strict=True)]
        worker.feedback.accept(items, None)
        sent += ids
        if drain is not None:
            work_off(drain)
            worker.follower.poll()
    return sent


def work_off(runner: Runner) -> int:
    """Step until there is nothing left."""
    steps = 0
    while runner.step():
        steps += 1
    return steps


def untimed(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what differs from run to run."""
    return {k: v for k, v in status.items() if k not in ("time", "runner")}


def handed_over(old: Runner) -> None:
    """The old runner is dead and its lease has run out."""
    old.store.release_lease(old.owner)
