"""Package a model, serve it, drive a stream against it, and print what happened."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)
from rich.table import Table as Grid

from .backtest import Backtest
from .config import Settings
from .deploy import open_store
from .drive import BatchReport, Driver, Stream, Summary
from .errors import SettingsError, StoreError
from .metrics import batch_interval
from .package import Package, as_label, open_package, package_model
from .records import Label
from .rules import Rule
from .served import ServedService
from .streams import ARTICLE_FEATURES, Table, article_rows
from .suggest import suggest

DEMO_MODEL = "selfheal-demo"
DEMO_RULE = Rule(feature="V14", operator="<", value=-1.5)
WORKERS = 2
COLUMNS = (
    ("batch", 5), ("state", 11), ("z", 5), ("conflicts", 9), ("shadow", 6), ("champion", 8),
    ("lift", 6), ("version", 7),
)  # fmt: skip


@dataclass(frozen=True)
class Show:
    """A served model and a stream to drive against it.

    Attributes:
        package: The packaged model, in the model store of ``home``.
        stream: What is sent.
        home: BENTOML_HOME of the server; what it leaves there stays for a look.
        every: Print one batch in so many.
        env: Settings of the service, as environment variables.
    """

    package: Package
    stream: Stream
    home: Path
    every: int = 1
    env: dict[str, str] = field(default_factory=dict)


def package_demo(seed: int) -> Package:
    """The article's classifier on the article's clean data, trained and packaged."""
    table = article_rows(5000, 0.0, np.random.default_rng(seed))
    return package_model(
        DEMO_MODEL,
        table.rows,
        table.labels,
        features=ARTICLE_FEATURES,
        sensitive=["V14"],
        rules=[DEMO_RULE],
        seed=seed,
    )


def demo_stream(batches: int, clean: int, drift: float, seed: int) -> Stream:
    """A few clean batches, then drifted ones; labels come one batch late."""
    generator = np.random.default_rng([seed, 1])
    parts = [
        article_rows(100 * clean, 0.0, generator),
        article_rows(100 * (batches - clean), drift, generator),
    ]
    return Stream(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.labels for part in parts]).astype(np.int64),
        delay=100,
    )


def package_table(
    name: str,
    table: Table,
    seed: int,
    sensitive: Sequence[str] | None,
    rules: Sequence[str] = (),
) -> Package:
    """A classifier trained on a user's table, packaged.

    Raises:
        SettingsError: A rule is not of the form ``feature < value -> class``.
    """
    classes = [as_label(value) for value in np.unique(table.labels)]
    return package_model(
        name,
        table.rows,
        table.labels,
        features=table.features,
        sensitive=sensitive,
        rules=[parse_rule(text, classes) for text in rules],
        seed=seed,
    )


def parse_rule(text: str, classes: Sequence[Label]) -> Rule:
    """``V14 < -1.5 -> fraud``; without a class the second one is meant.

    Raises:
        SettingsError: It is not of that form, or names no class.
    """
    found = re.fullmatch(r"\s*(.+?)\s*(<=|>=|<|>)\s*(\S+?)\s*(?:->\s*(.+?))?\s*", text)
    try:
        feature, operator, value, named = found.groups() if found else ("", "", "", None)
        bound = float(value)
    except ValueError:
        raise SettingsError(f"--rule: {text!r} is not 'feature < value -> class'") from None
    index = {str(label): i for i, label in enumerate(classes)}
    if named is not None and named not in index:
        raise SettingsError(f"--rule: {named!r} is no class; classes are {', '.join(index)}")
    target = 1 if named is None else index[named]
    return Rule.model_validate(
        {"feature": feature, "operator": operator, "value": bound, "target": target}
    )


def table_stream(table: Table, package: Package, delay: int, limit: int = 0) -> Stream:
    """A user's table as a stream for a packaged model.

    Raises:
        SettingsError: A label of the table is no class of the model.
    """
    index = {label: i for i, label in enumerate(package.info.classes)}
    given = [as_label(value) for value in table.labels]
    strange = sorted({str(label) for label in given if label not in index})
    if strange:
        raise SettingsError(f"labels {strange} are not in the training part: {list(index)}")
    end = limit or len(given)
    labels = np.asarray([index[label] for label in given[:end]], dtype=np.int64)
    return Stream(table.rows[:end], labels, delay)


Runner = Callable[[Settings], Backtest]


def backtest_table(
    table: Table,
    settings: Settings,
    train_fraction: float,
    delay: int,
    seed: int,
    sensitive: Sequence[str] | None,
    tries: Sequence[Settings] = (),
) -> dict[str, Any]:
    """Train on the first share of a table, stream the rest offline; one JSON object."""
    train, rest = table.split(train_fraction)
    with torch.random.fork_rng(devices=[]):
        package = package_table("backtest", train, seed, sensitive)

        def run(chosen: Settings) -> Backtest:
            there = open_package(package.tag, chosen.device)
            made = Backtest(there, chosen.model_copy(update={"seed": seed}))
            stream = table_stream(rest, package, delay)
            # On a terminal only: what is piped on must hold nothing but the result.
            console = Console(stderr=True)
            shown = track(
                made.run(stream), "batches", len(stream), console=console, transient=True,
                disable=not console.is_terminal,
            )  # fmt: skip
            deque(shown, maxlen=0)
            return made

        return _side_by_side(run, settings, tries)


def backtest_log(settings: Settings, tries: Sequence[Settings] = ()) -> dict[str, Any]:
    """Run a store's own log again, offline; one JSON object.

    Raises:
        StoreError: The store has no package, or no label has come to it.
    """
    store = open_store(settings)
    try:
        store.check()
        tag, start = store.meta("package"), store.meta("start")
        if tag is None or start is None:
            raise StoreError("the store has no package yet; deploy one first")
        begin = json.loads(start)

        def run(chosen: Settings) -> Backtest:
            made = Backtest(open_package(tag, chosen.device), chosen)
            made.replay(store, begin["predictions_from"], begin["feedback_from"])
            if not made.labelled:
                raise StoreError("no label in the store's log belongs to a logged prediction")
            return made

        return _side_by_side(run, settings, tries)
    finally:
        store.close()


def _side_by_side(run: Runner, settings: Settings, tries: Sequence[Settings]) -> dict[str, Any]:
    """The settings' own figures; and for each try whether it would have been better."""
    base, found = _backtest(run, settings)
    if tries:
        found["tries"] = []
    for chosen in tries:
        other, figures = _backtest(run, chosen)
        gain = batch_interval(_batches(other.correct("champion") - base.correct("champion")))
        changed = {
            name: value for name, value in chosen.model_dump(mode="json").items()
            if value != settings.model_dump(mode="json")[name]
        }  # fmt: skip
        better = {"accuracy": gain.mean, "low": gain.low, "high": gain.high}
        found["tries"].append({"settings": changed, **figures, "better": better})
    return found


def _backtest(run: Runner, settings: Settings) -> tuple[Backtest, dict[str, Any]]:
    started = time.perf_counter()
    made = run(settings)
    lift = batch_interval(_batches(made.correct("champion") - made.correct("frozen")))
    tally = made.pipeline.tally
    return made, {
        **made.figures(),
        "lift": {"accuracy": lift.mean, "low": lift.low, "high": lift.high},
        "promotions": tally.promotions,
        "rollbacks": tally.rollbacks,
        "seconds": time.perf_counter() - started,
    }


def _batches(gains: NDArray[np.float64], size: int = 100) -> list[float]:
    """Means of batches of rows, the last one as long as it is."""
    return [float(gains[at : at + size].mean()) for at in range(0, len(gains), size)]


def suggest_table(table: Table, most: int, seed: int) -> dict[str, Any]:
    """Sensitive features and candidate rules of a table, as JSON values."""
    given = [as_label(value) for value in table.labels]
    classes = sorted(set(given), key=lambda label: (isinstance(label, str), label))
    index = {label: i for i, label in enumerate(classes)}
    labels = np.asarray([index[label] for label in given], dtype=np.int64)
    found = suggest(table.rows, labels, table.features, classes=len(classes), seed=seed, most=most)
    return {
        "sensitive": found.sensitive,
        "strength": found.strength,
        "rules": [
            {**asdict(r), "rule": r.rule.model_dump(), "class": classes[r.rule.target]}
            for r in found.rules
        ],
    }


def run_show(show: Show, console: Console, target: str, cwd: Path | None = None) -> Summary:
    """Serve, drive, print; the server is ended when this returns."""
    console.print(f"serving [bold]{show.package.tag}[/] with {WORKERS} predict workers …")
    log = show.home / "server.log"
    env = {
        "SELFHEAL_MODEL": show.package.tag,
        "SELFHEAL_WORKERS": str(WORKERS),
        **show.env,
    }
    reports: list[BatchReport] = []
    with ServedService(target, home=show.home, log=log, cwd=cwd, env=env) as server:
        console.print(f"ready at {server.url}, server log in {log}\n")
        driver = Driver(server.url, show.package, WORKERS)
        console.print(_header(), soft_wrap=True)
        with _progress(console) as progress:
            task = progress.add_task("batches", total=len(show.stream))
            for report in driver.run(show.stream):
                reports.append(report)
                progress.advance(task)
                if any(word in report.action for word in ("promote", "rollback")) or (
                    report.number % show.every == 0
                ):
                    progress.console.print(_line(report), soft_wrap=True)
        with_status = Driver(server.url, show.package, WORKERS)
        return Summary(reports, with_status.status())


def print_summary(summary: Summary, console: Console, tail: int) -> None:
    """What the stream came to."""
    grid = Grid(title="what was served, against the frozen model on the same rows")
    for name in ("", "accuracy", "precision", "recall", "F1", f"accuracy, last {tail} batches"):
        grid.add_column(name, justify="left" if not name else "right")
    frozen_tail = sum((r.shadow for r in summary.reports[-tail:]), summary.reports[-1].shadow)
    ends = (("frozen (shadow)", summary.shadow, None), ("served (champion)", summary.champion, 1))
    for name, scores, own in ends:
        late = summary.tail(tail) if own else frozen_tail
        grid.add_row(
            name, f"{scores.accuracy:.3f}", f"{scores.precision:.3f}", f"{scores.recall:.3f}",
            f"{scores.f1:.3f}", f"{late.accuracy:.3f}",
        )  # fmt: skip
    console.print(grid)
    status = summary.status
    console.print(
        f"lift {summary.lift} (accuracy, 95 % interval)   heals {status['heals']}   "
        f"promotions {status['promotions']}   rollbacks {status['rollbacks']}   "
        f"serving snapshot {status['serving']['version']}"
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _header() -> str:
    return "[bold]" + "  ".join(f"{name:>{width}}" for name, width in COLUMNS) + "  action[/]"


def _line(r: BatchReport) -> str:
    values = (
        str(r.number), r.state, f"{r.z:.2f}", str(r.conflicts), f"{r.shadow.accuracy:.2f}",
        f"{r.champion.accuracy:.2f}", f"{r.lift:+.2f}", str(r.version),
    )  # fmt: skip
    cells = [f"{v:>{width}}" for v, (_, width) in zip(values, COLUMNS, strict=True)]
    return "  ".join(cells) + f"  {r.action}"
