"""Tables as they lie: what was served beside boosted trees, frozen and trained anew; and how
requests are answered that the API page calls valid.

    make bench-inputs
    python benchmarks/inputs.py NAME …    single rows

Boosted trees (scikit-learn's histogram gradient boosting) get categories and gaps as they are, the
same training rows, and labels as late as ours; those trained anew learn all labels known so far
after each 1,000 rows.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapted_trees
import numpy as np
import torch
from images import CHANGES, digits_that_change
from numpy.typing import NDArray
from one_worker import one_worker
from page_requests import statuses
from readme import update
from runner_memory import runner_memory
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from texts import words_that_change
from worlds import DATA, package_article

from bento_selfheal.config.settings import Settings
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.reading.rows import RowReader
from bento_selfheal.serving.reading.typed_rows import TypedRowReader
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.comparison import REQUEST_ROWS
from bento_selfheal.simulation.streams import Stream, read_table
from bento_selfheal.simulation.table import package_table, table_stream

RESULTS = Path(__file__).parent / "results" / "inputs.json"
SEED, AGAIN, MOST_LEVELS = 42, 1000, 255
REQUESTS = 2_000
Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A file, what is to be predicted, how much of it trains, and how late labels come."""

    file: str
    label: str
    share: float
    late: int


SOURCES = {
    "birdstrikes": Source("birdstrikes.csv", "damaged", 0.2, 500),
    "elec2_raw": Source("elec2_raw.csv", "target", 0.1, 100),
}
BEHIND = {
    f"{name} behind XGBoost": Source(source.file, source.label, source.share, 100)
    for name, source in SOURCES.items()
}
"""The same files, with boosted trees that an adapter heals."""


def measured_behind(source: Source, _: Path) -> Row:
    """What was served behind boosted trees, and what they say frozen and trained anew."""
    train, rest = read_table(DATA / source.file, source.label).split(source.share)
    package = adapted_trees.packaged(train)
    run = adapted_trees.healed(package, rest, source.late)
    labels, figures = run.answers("labels"), run.figures()
    again = adapted_trees.anew(train, rest, package, source.late, len(labels))
    known = ("accuracy", "auc", "average_precision")
    return {
        "packaged": {key: figures["frozen"][key] for key in known},
        "served": {key: figures["champion"][key] for key in known},
        "trained_anew": scored(again, labels),
        "rows": len(labels),
    }


def measured(source: Source, _: Path) -> Row:
    """What was served and what boosted trees say, on the same rows."""
    train, rest = read_table(DATA / source.file, source.label).split(source.share)
    package = package_table("inputs", train, SEED, None)
    stream = table_stream(rest, package, source.late)
    run, flagged = Backtest(package, Settings(seed=SEED)), dict[str, int]()
    requests = run.run(Stream(stream.rows, stream.labels, source.late, REQUEST_ROWS))
    for number, _ in enumerate(requests, start=1):
        signals, limit = run.parts.drift.signals, run.parts.settings.tuning.fidi_threshold
        moved = [name for name, z in signals.fidi.scores().items() if z > limit]
        for name in (*moved, *signals.reading.differing):
            flagged.setdefault(name, len(train.rows) + number * REQUEST_ROWS)
    labels = run.answers("labels")
    rows = {
        name: {key: figures[key] for key in ("accuracy", "auc", "average_precision")}
        for name, figures in run.figures().items()
        if name in ("frozen", "champion")
    }
    return {
        **{"frozen": rows["frozen"], "served": rows["champion"]},
        "trees": scored(trees(train, stream, package, len(labels), again=False), labels),
        "trees_anew": scored(trees(train, stream, package, len(labels), again=True), labels),
        "flagged_at_row": flagged,
        "rows": len(labels),
    }


def trees(
    train: Table, stream: Stream, package: Package, count: int, *, again: bool
) -> NDArray[np.float64]:
    """Boosted trees' probability of the second class, ``(count,)``."""
    kinds = [column.kind is Kind.CATEGORY for column in package.info.columns]
    taught = table_stream(train, package, 0).labels
    rows = np.concatenate([train.rows, stream.rows])
    # Its categories are numbers below 255; those beyond are one.
    rows = np.where(kinds, np.minimum(rows, MOST_LEVELS - 1), rows)
    labels = np.concatenate([taught, stream.labels])
    known, said = len(taught), []
    for at in range(0, count, AGAIN if again else count):
        model = HistGradientBoostingClassifier(categorical_features=kinds, random_state=SEED)
        end = known + max(at - stream.delay, 0)
        empty = np.isnan(rows[:end]).all(axis=0)  # which scikit-learn cannot bin
        model.fit(np.where(empty, 0, rows[:end]), labels[:end])
        part = rows[known + at : known + min(at + (AGAIN if again else count), count)]
        said.append(model.predict_proba(part)[:, 1])
    return np.concatenate(said)


def scored(said: NDArray[np.float64], labels: NDArray[np.float32]) -> Row:
    """Accuracy at 0.5, AUC and average precision."""
    return {
        "accuracy": float(((said > 0.5) == labels).mean()),
        "auc": float(roc_auc_score(labels, said)),
        "average_precision": float(average_precision_score(labels, said)),
    }


def api_page(home: Path) -> Row:
    """Statuses of requests to `/predict` that schemathesis makes as valid from the API page."""
    source = SOURCES["birdstrikes"]
    train, _ = read_table(DATA / source.file, source.label).split(source.share)
    packages = {
        "a mixed table": package_table("mixed", train, SEED, None),
        "plain numbers": package_article(SEED),
    }
    out: Row = {}
    for name, package in packages.items():
        with one_worker(home, package) as server:
            seen = statuses(server.url, "/predict", REQUESTS)
        out[name] = {str(status): count for status, count in sorted(seen.items())}
    return out


def row_reading(_: Path) -> Row:
    """Milliseconds to read a body of rows of 20 columns, typed and plain."""
    draw, levels = np.random.default_rng(SEED), tuple(f"level {i}" for i in range(30))
    values: dict[Kind, Callable[[], Any]] = {
        Kind.NUMBER: lambda: float(draw.normal()), Kind.INTEGER: lambda: int(draw.integers(100)),
        Kind.BOOLEAN: lambda: bool(draw.random() < 0.5),
        Kind.CATEGORY: lambda: f"level {draw.integers(32)}",
        Kind.DATETIME: lambda: f"2026-11-{draw.integers(10, 30)}T09:30:00Z",
    }  # fmt: skip
    kinds = [kind for kind in values for _ in range(4)]
    columns = [
        Column(name=f"c{i}", kind=kind, nullable=True, levels=levels * (kind is Kind.CATEGORY))
        for i, kind in enumerate(kinds)
    ]
    typed, plain = TypedRowReader(columns, 1000), RowReader([c.name for c in columns], 1000)
    out: Row = {}
    for n in (1, 1000):
        rows = [[None if draw.random() < 0.05 else values[k]() for k in kinds] for _ in range(n)]
        bodies = {"typed": (typed, rows), "plain": (plain, draw.normal(size=(n, 20)).tolist())}
        for name, (reader, given) in bodies.items():
            read = functools.partial(reader.read_json, json.dumps({"rows": given}).encode())
            times = 2000 // n
            out[f"{name}, {n:,} rows"] = min(timeit.repeat(read, number=times)) / times * 1000
    return out


def images(how: str, _: Path) -> Row:
    """`digits_that_change`, for the table of rows."""
    return digits_that_change(how)


ROWS: dict[str, Callable[[Path], Row]] = {
    **{name: functools.partial(measured, source) for name, source in SOURCES.items()},
    **{f"images, {how}": functools.partial(images, how) for how in CHANGES},
    "texts": words_that_change,
    "runner_memory": runner_memory,
    **{name: functools.partial(measured_behind, source) for name, source in BEHIND.items()},
    "api_page": api_page,
    "row_reading": row_reading,
}


def main() -> None:
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-inputs", "settings": "defaults"}
    for name in sys.argv[1:] or ROWS:
        with tempfile.TemporaryDirectory() as home:
            use_home(Path(home))
            results[name] = ROWS[name](Path(home))
        print(name, json.dumps(results[name]), flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("inputs")


if __name__ == "__main__":
    main()
