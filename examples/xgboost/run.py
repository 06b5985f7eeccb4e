"""Serves boosted trees of XGBoost, and heals them when what they learned no longer holds.

    python run.py [BATCHES]

Loans with gaps, a category and a switch: the trees learn which are paid back. Then prices rise, and
other purposes than before fail. Labels come one batch of 100 loans late.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from xgboost import XGBClassifier

from bento_selfheal import Client, FeedbackItem, package_model
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.server import ServedService

COLUMNS = [
    Column(name="amount", nullable=True),
    Column(name="income"),
    Column(name="purpose", kind=Kind.CATEGORY, levels=("car", "home", "study", "travel")),
    Column(name="employed", kind=Kind.BOOLEAN, nullable=True),
]
RISKY = {"then": ("travel", "car"), "now": ("home", "study")}
BATCH = 100


def loans(n: int, seed: int, when: str) -> tuple[list[list[Any]], list[str]]:
    """Rows as a client has them, and what became of each loan."""
    draw, rows, labels = np.random.default_rng(seed), [], []
    for _ in range(n):
        amount, income = float(draw.lognormal(9, 0.5)), float(draw.lognormal(8, 0.4))
        purpose, employed = str(draw.choice(COLUMNS[2].levels)), bool(draw.random() < 0.7)
        odds = 0.5 * amount / income - 2 - employed + 3 * (purpose in RISKY[when])
        failed = draw.random() < 1 / (1 + np.exp(-odds))
        rows.append([None if draw.random() < 0.1 else amount, income, purpose, employed])
        labels.append("default" if failed else "paid")
    return rows, labels


def package_trees() -> str:
    """Train the trees on codes, which a row of values becomes, and package them; the tag."""
    rows, labels = loans(3000, seed=0, when="then")
    schema = Schema(COLUMNS)
    codes = np.stack([schema.code(row) for row in rows])
    known, places = np.unique(labels, return_inverse=True)  # XGBoost takes places of classes
    types = ["c" if column.kind is Kind.CATEGORY else "q" for column in COLUMNS]
    trees = XGBClassifier(
        n_estimators=50, max_depth=4, feature_types=types, enable_categorical=True
    )
    trees.fit(codes[:2000], places[:2000])
    package = package_model(
        "loans", codes[2000:], labels[2000:],  # which the trees have not seen
        features=[column.name for column in COLUMNS], columns=COLUMNS, estimator=trees,
    )  # fmt: skip
    print(f"classes {known.tolist()}, accuracy {package.info.accuracy:.2f} on the reference set")
    return package.tag


def learned(client: Client, labels: int) -> None:
    """Wait until the service has learned the labels, and what they promoted serves."""
    while True:
        status = client.status()
        joined = (status.get("labels") or {}).get("joined", 0)
        follows = status["serving"]["version"] == status["worker"]["serving_version"]
        if joined >= labels and follows and status["state"] != "HEALING":
            return
        time.sleep(0.05)


def stream(client: Client, batches: int) -> None:
    """Ask about loans and send each batch's labels after the next; print how many were right."""
    owed: deque[list[FeedbackItem]] = deque()
    for number in range(batches):
        rows, labels = loans(BATCH, seed=1 + number, when="then" if number < 5 else "now")
        answer = client.predict(rows)
        right = np.mean([a == b for a, b in zip(answer.decisions, labels, strict=True)])
        when = "before" if number < 5 else "after"
        print(f"batch {number:3d}, {when}: {right:.2f} right, snapshot {answer.model_version}")
        if owed:
            client.feedback(owed.popleft())
            learned(client, number * BATCH)
        ids = zip(answer.prediction_ids, labels, strict=True)
        owed.append([FeedbackItem(prediction_id=i, label=label) for i, label in ids])


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="loans-"))
    use_home(home)
    env = {"SELFHEAL_MODEL": package_trees(), "SELFHEAL_WORKERS": "1", "SELFHEAL_HEAL_SHARE": "1"}
    target = "bento_selfheal.default_service:SelfHealing"
    with (
        ServedService(target, home=home, log=home / "server.log", env=env) as server,
        Client(server.url) as client,
    ):
        stream(client, int(sys.argv[1]) if len(sys.argv) > 1 else 30)


if __name__ == "__main__":
    main()
