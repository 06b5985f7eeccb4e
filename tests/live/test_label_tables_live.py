"""Labels from files and tables on a real server: bodies, the command, and a feed over kill -9."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from commands import COMMAND
from conftest import wait_for
from live import Client, processes

from bento_selfheal import client as public
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import article_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = 3000
HALF = 10_000
"""Labels of each feed."""


def predicted(client: Client, name: str, count: int) -> list[str]:
    """Keys with a prediction each."""
    keys = [f"{name}-{n}" for n in range(count)]
    rows = article_rows(count, 0.0, np.random.default_rng(1)).rows
    client.ask("/predict", {"rows": rows.tolist(), "keys": keys})
    return keys


def label(server: ServedService, file: Path, *more: str) -> tuple[int, dict[str, Any]]:
    words = ["label", str(file), "--key", "tx", "--label", "fraud", "--url", server.url, "--json"]
    done = subprocess.run(
        [*COMMAND, *words, *more], cwd=file.parent, capture_output=True, text=True, timeout=200
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def stored(folder: Path) -> tuple[int, int]:
    """How many labels the log holds, and of how many keys."""
    with closing(sqlite3.connect(folder / "state" / "selfheal.db")) as db:
        rows, keys = db.execute("select count(*), count(distinct key) from feedback").fetchone()
    return rows, keys


def test_tables_and_files(serve: Callable[..., ServedService], tmp_path: Path) -> None:
    """`/feedback` takes tables beside JSON and names them where it takes a body of no kind; the
    command sends a file over the service's limit of rows, and each label counts once."""
    server = serve(workers=1, max_rows=ROWS, mode="observe")
    with Client(server) as client:
        keys = predicted(client, "t", ROWS)
    labels = [n % 2 for n in range(ROWS)]
    table = pd.DataFrame({"key": keys, "label": labels})
    with public.Client(server.url) as sender:
        assert sender.label(table[:10]).accepted == 10
        assert sender.feedback([{"key": keys[0], "label": 0}]).already_known == 1
    body = table[10:20].to_csv(index=False)
    sent = httpx.post(f"{server.url}/feedback", content=body, headers={"Content-Type": "text/csv"})
    assert (sent.status_code, sent.json()["accepted"]) == (200, 10)
    none = httpx.post(f"{server.url}/feedback", content=b"x", headers={"Content-Type": "image/png"})
    assert none.status_code == 415
    assert "text/csv or application/vnd.apache.parquet" in none.json()["error"]
    file = tmp_path / "night.parquet"
    later = pd.DataFrame({"tx": [f"u-{n}" for n in range(4000)], "fraud": [0] * 4000})
    mine = pd.DataFrame({"tx": keys, "fraud": labels})
    pd.concat([mine, later, pd.DataFrame({"tx": ["v"], "fraud": [0.5]})]).to_parquet(file)
    code, found = label(server, file, "--source", "night")
    assert (code, found["rows"], found["rejected"]) == (1, ROWS + 4001, 1)
    assert found["accepted"] == ROWS - 20 + 4000
    assert (found["already_known"], found["waiting"]) == (20, 4000)
    assert "0.5 is not a class" in (tmp_path / "night.parquet.rejected.csv").read_text()
    assert label(server, file)[1]["already_known"] == ROWS + 4000
    assert stored(tmp_path) == (ROWS + 4000, ROWS + 4000)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_feeds_over_a_killed_runner(
    serve: Callable[..., ServedService], tmp_path: Path, request: pytest.FixtureRequest,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """A database and a folder are read to their ends although the runner is killed again and
    again; nothing is lost or doubled, and the status shows where each feed stands."""
    kills = request.config.getoption("--kills")
    (tmp_path / "in").mkdir()
    with closing(sqlite3.connect(tmp_path / "desk.db")) as db, db:
        db.execute("create table labels (id integer, tx text, fraud integer)")
        rows = [(n, f"d-{n}", n % 2) for n in range(HALF)]
        db.executemany("insert into labels values (?, ?, ?)", rows)
    lines = "".join(f"f-{n},{n % 2}\n" for n in range(HALF))
    (tmp_path / "in" / "night.csv").write_text(f"tx,fraud\n{lines}bad,maybe\n")
    columns = {"key": "tx", "label": "fraud", "seconds": 0.2}
    desk = {"url": f"sqlite:///{tmp_path / 'desk.db'}", "query": "select * from labels"}
    feeds = [
        {"name": "desk", **desk, "cursor": "id", **columns},
        {"name": "night", "folder": str(tmp_path / "in"), **columns},
    ]
    server = serve(workers=1, lease_seconds=1, mode="observe", feeds=json.dumps(feeds))
    with Client(server) as client:
        for reached in np.linspace(1_000, 1.5 * HALF, kills):
            wait_for(lambda least=reached: stored(tmp_path)[0] > least, f"{reached} labels", 90)
            for process in processes(server, "HealingRunner"):
                process.kill()
        wait_for(lambda: stored(tmp_path)[0] >= 2 * HALF, "every label", 120)

        def ends() -> bool:
            shown = {feed["name"]: feed for feed in client.read("/status").get("feeds", [])}
            return bool(shown) and shown["desk"]["rows"] == HALF and (
                shown["night"]["rows"] == HALF + 1
            )  # fmt: skip

        wait_for(ends, "both feeds at their ends")
        status = client.read("/status")
    rows, keys = stored(tmp_path)
    lost = 2 * HALF - keys
    record_fault("kill -9, feeds of labels", kills=kills, lost=lost, doubled=rows - keys)
    assert (rows, keys) == (2 * HALF, 2 * HALF)
    assert [feed["rejected"] for feed in status["feeds"]] == [0, 1]
    assert [thread["alive"] for thread in status["threads"]].count(False) == 0
