"""Labels by key on a real server: it heals from them alone, also over kill -9 of the runner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_for
from live import DRIFT, Client, processes

from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import article_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BATCH = 100


class KeyFeeder:
    """Sends batches of rows with keys, each asked twice, and labels them by key, twice too."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._draw = np.random.default_rng(7)
        self.sent = 0

    def send(self, *, early: bool = False) -> None:
        """One batch; its labels come before it where they are early."""
        table = article_rows(BATCH, DRIFT, self._draw)
        keys = [f"tx-{n}" for n in range(self.sent, self.sent + BATCH)]
        labels = np.asarray(table.labels).tolist()
        items = [{"key": k, "label": y} for k, y in zip(keys, labels, strict=True)]
        if early:
            self._label(items)
        for _ in range(2):
            self._client.ask("/predict", {"rows": table.rows.tolist(), "keys": keys})
        if not early:
            self._label(items)
        assert self._client.ask("/feedback", {"items": items})["already_known"] == BATCH
        self.sent += BATCH

    def _label(self, items: list[dict[str, object]]) -> None:
        assert self._client.ask("/feedback", {"items": items})["accepted"] == BATCH

    def learned(self) -> bool:
        return bool(self._client.read("/status")["labels"]["joined"] >= self.sent)


def test_heals_from_labels_by_key_alone(
    serve: Callable[..., ServedService], tmp_path: Path
) -> None:
    """Rows that are asked twice under one key are learned once, early labels among them; heals and
    promotions come of labels by key alone, and a killed runner goes on without losing or repeating
    one."""
    server = serve(workers=2, lease_seconds=2)
    with Client(server) as client:
        feeder = KeyFeeder(client)
        feeder.send(early=True)
        wait_for(feeder.learned, "the first labels are learned")
        for _ in range(4):
            feeder.send()
        for process in processes(server, "HealingRunner"):
            process.kill()
        for _ in range(5):
            feeder.send()
        wait_for(feeder.learned, "every label is learned", 120)
        wait_for(lambda: client.read("/promotions")[-1]["version"] > 1, "a promotion", 120)
        status = client.read("/status")
    assert status["labels"]["joined"] == feeder.sent
    assert (status["labels"]["waiting"], status["labels"]["unmatched"]) == (0, 0)
    with closing(sqlite3.connect(tmp_path / "state" / "selfheal.db")) as db:
        rows, waiting = db.execute('SELECT count(*), sum("row" < 0) FROM feedback').fetchone()
    assert (rows, waiting) == (feeder.sent, 0)
