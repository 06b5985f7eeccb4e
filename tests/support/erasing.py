"""Two services that are given the same logs, of which one never saw a certain row."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load
from steps import work_off
from torch import Tensor

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import KEY_BYTES, KEY_HASH_BYTES
from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.errors import LeaseLost
from bento_selfheal.runner.runner import Runner
from bento_selfheal.serving.worker import Worker
from bento_selfheal.telemetry.spans import Telemetry

BEGAN = 1_700_000_000.0


def hash_of(key: str) -> bytes:
    """What stands for a key in the logs of these tests."""
    return hashlib.blake2b(key.encode(), digest_size=KEY_HASH_BYTES).digest()


def label_of(key: str, label: int, time: float, **more: Any) -> FeedbackRecord:
    """A label by key."""
    hashed = hash_of(key)
    return FeedbackRecord(hashed[:KEY_BYTES], WAITS, label, time, key=hashed, **more)


@dataclass
class Service:
    """A store with a worker and a runner that is stepped by hand."""

    settings: Settings
    written: list[PredictionRecord | list[FeedbackRecord]] = field(default_factory=list)
    """Everything that was written to both logs, in order."""

    def __post_init__(self) -> None:
        prepare(self.settings)
        self.store = open_store(self.settings)
        self.worker = Worker(self.settings, Telemetry())
        self.runner = Runner(self.settings, Telemetry())
        self.runner.step()

    def close(self) -> None:
        for store in (self.store, self.worker.store, self.runner.store):
            store.close()

    @property
    def file(self) -> Path:
        return self.settings.state_dir / "selfheal.db"

    def ask(self, rows: Any, keys: list[str], time: float) -> PredictionRecord:
        """Answer rows with what serves, and log it."""
        answered = self.worker.computing.compute(rows)
        number = len(self.written)
        request = int(time * 1000).to_bytes(6, "big") + (number + 1).to_bytes(6, "big")
        record = PredictionRecord(
            request, answered.rows, answered.probabilities, answered.champion.version, time,
            keys=b"".join(map(hash_of, keys)),
        )  # fmt: skip
        self.write(record)
        return record

    def write(self, entry: PredictionRecord | list[FeedbackRecord]) -> None:
        self.written.append(entry)
        if isinstance(entry, PredictionRecord):
            self.store.append_predictions([entry])
        else:
            self.store.add_feedback(entry)

    def step(self) -> None:
        """Work off what was written, and serve what was promoted; an erasure takes the lease."""
        with suppress(LeaseLost):
            work_off(self.runner)
        work_off(self.runner)
        self.worker.follower.poll()

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as c, c:
            return c.execute(statement, values).fetchall()


def without(
    service: Service, written: list[Any], key: str | None, place: tuple[bytes, int] | None = None
) -> None:
    """Write the same logs but for a row; what would have stood in its place stays a gap.

    Args:
        service: Whose logs.
        written: What another service wrote.
        key: The row's own key.
        place: Or its request and number, the last one of the request.
    """
    for entry in written:
        if isinstance(entry, PredictionRecord):
            _predict(service, entry, key, place)
        else:
            for one in entry:
                _label(service, one, key, place)


def _predict(
    service: Service, entry: PredictionRecord, key: str | None, place: tuple[bytes, int] | None
) -> None:
    count = len(entry.probabilities)
    gone = [r for r in range(count) if key is not None and entry.key_of(r) == hash_of(key)]
    gone += [place[1]] if place is not None and place[0] == entry.request else []
    stay = [row for row in range(count) if row not in gone]
    if stay:
        keys = b"".join(entry.key_of(row) or b"" for row in stay)
        entry = replace(
            entry, features=entry.features[stay], probabilities=entry.probabilities[stay], keys=keys
        )
        service.write(entry)
    else:
        service.write(replace(entry, keys=b""))
        service.sql("delete from predictions where request = ?", entry.request)


def _label(
    service: Service, one: FeedbackRecord, key: str | None, place: tuple[bytes, int] | None
) -> None:
    by_key = key is not None and one.key == hash_of(key)
    if not by_key and (place is None or (one.request, one.row) != place):
        service.write([one])
        return
    (before,) = service.sql("select coalesce(max(seq), 0) from feedback")[0]
    width = len(service.worker.package.info.features)
    stand_in = hashlib.sha256(repr(one).encode()).digest()[:KEY_BYTES]
    row = np.zeros(width, dtype=np.float32)
    service.write([FeedbackRecord(stand_in, 0, 0, one.time, features=row)])
    service.sql("delete from feedback where seq > ?", before)


OF_PROMOTIONS = ("history", "lineage", "rollback", "shown", "policy")
"""Parts that say what serves, and since when."""
OF_TRIALS = ("trial", "gate")


def read_checkpoint(service: Service) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts of a runner's checkpoint by part, and its tensors."""
    blob = service.store.state()
    assert blob is not None
    size = int.from_bytes(blob[:8], "little")
    facts = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"]["selfheal"])
    return facts["parts"], load(blob[:-4])


def learned(service: Service) -> dict[str, Any]:
    """All that a checkpoint knows of rows and of what was learned from them, to the bit."""
    parts, kept = read_checkpoint(service)
    tensors = {
        name: value.numpy().tobytes()
        for name, value in kept.items()
        if name.split("/")[0] not in OF_PROMOTIONS and not name.startswith("line/ranking.")
    }
    facts = {name: part for name, part in parts.items() if name not in OF_PROMOTIONS}
    facts["line"] = {k: v for k, v in parts["line"].items() if k not in OF_TRIALS}
    del facts["cursors"]["promotions"], facts["scoreboard"]["counts"]["rollbacks"]
    return {**tensors, **facts}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names under which two such states differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def holders(needles: dict[str, bytes], *folders: Path) -> Iterator[tuple[str, Path]]:
    """Files below folders that hold certain bytes, with the name of these."""
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            held = path.read_bytes()
            yield from ((name, path) for name, needle in needles.items() if needle in held)
