"""Streams of many kinds: what was served, beside River's learners and retraining from scratch.

Each under the same delay of labels, every answer given before its label was known.
"""

from __future__ import annotations

from typing import Any

import peers
from kinds import KINDS, TRAIN
from worlds import DATA

from bento_selfheal.config.settings import Settings
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.comparison import REQUEST_ROWS
from bento_selfheal.simulation.streams import Stream, read_table
from bento_selfheal.simulation.table import package_table, table_stream

REAL = {
    "insects_gradual": ("insects_gradual.csv", "target", 0.3),
    "Elec2": ("elec.csv", "class", 0.1),
}
LATE = dict.fromkeys((*REAL, "short, four classes"), (100, 500))
LATE |= dict.fromkeys(("class share moves", "sensors wander"), (500,))
"""Rows after which labels come; 100 for all others."""
PEERS = {
    "logistic": peers.logistic,
    "hat": peers.hat,
    "arf10": peers.arf10,
    "retrain_all_weights": peers.retrain,
}
STREAMS = [(name, late) for name in (*REAL, *KINDS) for late in LATE.get(name, (100,))]


def against_peers(name: str, delay: int, seed: int) -> dict[str, Any]:
    """Accuracy, AUC and average precision of what was served, and the accuracy of each peer."""
    train, rest = _table(name, seed)
    package = package_table("stream", train, seed, None)
    stream = table_stream(rest, package, delay)
    taught = table_stream(train, package, 0).labels
    run = Backtest(package, Settings(seed=seed))
    for _ in run.run(Stream(stream.rows, stream.labels, delay, REQUEST_ROWS)):
        pass
    labels = run.answers("labels")
    found: dict[str, Any] = {}
    ours = {"frozen": "frozen", "champion": "served", "challenger": "challenger"}
    for name_of, figures in run.figures().items():
        if (shown := ours.get(name_of)) is not None:
            found[shown] = figures["accuracy"]
            found |= {f"{shown}_{k}": figures[k] for k in ("auc", "average_precision")}
    found["majority"] = run.majority
    for peer, answer in PEERS.items():
        said = answer(train.rows, taught, stream.rows, stream.labels, delay, seed)
        found[peer] = Scores.of(said[: len(labels)], labels).accuracy
    best = max(found[peer] for peer in ("frozen", *PEERS))
    return {**found, "ahead_of_best": found["served"] - best}


def _table(name: str, seed: int) -> tuple[Table, Table]:
    """The rows to train on, and the stream."""
    if name in KINDS:
        return KINDS[name](seed).split(TRAIN)
    file, label, share = REAL[name]
    return read_table(DATA / file, label).split(share)
