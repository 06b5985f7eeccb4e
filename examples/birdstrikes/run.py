"""Packages a mixed table as it lies, serves the model, and heals it when damage has other causes.

    python run.py [ROWS]

The first quarter of the rows trains. The others are sent in batches of 50, with their labels one
batch late. Half way through the file, what damages aircraft changes.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np
from strikes import COLUMNS, strikes

from bento_selfheal import Client, FeedbackItem
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import read_table
from bento_selfheal.simulation.table import package_table

BATCH, LABEL = 50, "damaged"


def package_first(rows: list[list[str]], file: Path) -> str:
    """Write rows as a file, and package a model of it; the tag."""
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([COLUMNS, *rows])
    table = read_table(file, LABEL)
    print("\n".join(table.notes))
    package = package_table("strikes", table, seed=0, sensitive=None)
    print(f"packaged {package.tag}: accuracy {package.info.accuracy:.2f} on held-out rows")
    return package.tag


def as_sent(row: list[str]) -> dict[str, object]:
    """A row by name, as a client has it: texts, a number, and null for what is missing."""
    named: dict[str, object] = dict(zip(COLUMNS[:-1], row, strict=False))
    speed = row[COLUMNS.index("speed in knots")]
    return named | {"speed in knots": float(speed) if speed else None}


def learned(client: Client, labels: int) -> None:
    """Wait until the service has learned the labels, and what they promoted serves."""
    while True:
        status = client.status()
        joined = (status.get("labels") or {}).get("joined", 0)
        follows = status["serving"]["version"] == status["worker"]["serving_version"]
        if joined >= labels and follows and status["state"] != "HEALING":
            return
        time.sleep(0.05)


def stream(client: Client, rows: list[list[str]]) -> list[float]:
    """Ask about rows and send each batch's labels after the next; how many were right in each."""
    owed: deque[list[FeedbackItem]] = deque()
    right: list[float] = []
    for at in range(0, len(rows), BATCH):
        batch = rows[at : at + BATCH]
        answer = client.predict([as_sent(row) for row in batch])
        labels = [row[-1] for row in batch]
        right.append(
            float(np.mean([a == b for a, b in zip(answer.decisions, labels, strict=True)]))
        )
        if owed:
            client.feedback(owed.popleft())
            learned(client, at)
        ids = zip(answer.prediction_ids, labels, strict=True)
        owed.append([FeedbackItem(prediction_id=i, label=label) for i, label in ids])
    return right


def main() -> None:
    rows = list(strikes(int(sys.argv[1]) if len(sys.argv) > 1 else 4000))
    home, start = Path(tempfile.mkdtemp(prefix="strikes-")), len(rows) // 4
    use_home(home)
    tag = package_first(rows[:start], home / "strikes.csv")
    env = {"SELFHEAL_MODEL": tag, "SELFHEAL_WORKERS": "1", "SELFHEAL_HEAL_SHARE": "1"}
    target = "bento_selfheal.default_service:SelfHealing"
    with (
        ServedService(target, home=home, log=home / "server.log", env=env) as server,
        Client(server.url) as client,
    ):
        right = stream(client, rows[start:])
    turn = start // BATCH
    print(f"accuracy before damage had other causes: {np.mean(right[:turn]):.2f}")
    print(f"just after:                              {np.mean(right[turn : turn + 3]):.2f}")
    print(f"of the last ten batches:                 {np.mean(right[-10:]):.2f}")


if __name__ == "__main__":
    main()
