"""What the demo prints while it runs."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bento_selfheal.cli.figures import caught, new_classes, print_figures
from bento_selfheal.cli.terminal import say
from bento_selfheal.core.records import Label
from bento_selfheal.core.text import counted
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.driver import BatchReport, Driver, Summary
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import Stream

log = logging.getLogger(__name__)

WORKERS = 2
BRISK = {"SELFHEAL_RUNNER_NICE": "0", "SELFHEAL_HEAL_SHARE": "1"}
"""The stream waits for its heals: there are no predictions of others to stand back behind."""
COLUMNS = (
    ("batch", 5), ("state", 11), ("z", 5), ("conflicts", 9), ("baseline", 8),
    ("served", 6), ("lift", 6), ("version", 7),
)  # fmt: skip


@dataclass(frozen=True)
class Demo:
    """A model to serve and a stream to send to it.

    Attributes:
        package: The packaged model, in the model store of ``home``.
        stream: The batches to send.
        home: BENTOML_HOME of the server; its files stay there afterwards.
        every: Print one batch out of this many.
        env: Settings of the service, as environment variables.
        never: Class that nobody reports.
    """

    package: Package
    stream: Stream
    home: Path
    every: int = 1
    env: dict[str, str] = field(default_factory=dict)
    never: Label | None = None


def run_demo(demo: Demo, console: Console, target: str, cwd: Path | None = None) -> Summary:
    """Serve the model, send it the stream and print each batch; stop the server at the end."""
    say(console, f"serving {demo.package.tag} with {WORKERS} predict workers …", "bold")
    log = demo.home / "server.log"
    env = {
        "SELFHEAL_MODEL": demo.package.tag,
        "SELFHEAL_WORKERS": str(WORKERS),
        **{name: os.environ.get(name, value) for name, value in BRISK.items()},
        **demo.env,
    }
    reports: list[BatchReport] = []
    with (
        _ended_by_sigterm(),
        ServedService(target, home=demo.home, log=log, cwd=cwd, env=env) as server,
    ):
        say(console, f"ready at {server.url}, server log in {log}\n")
        driver = Driver(server.url, demo.package, WORKERS, demo.never)
        say(console, _header(), "bold")
        with _progress(console) as progress:
            task = progress.add_task("batches", total=len(demo.stream))
            for report in driver.run(demo.stream):
                reports.append(report)
                progress.advance(task)
                if any(word in report.action for word in ("promote", "rollback")) or (
                    report.number % demo.every == 0
                ):
                    say(progress.console, _line(report))
        with_status = Driver(server.url, demo.package, WORKERS)
        return Summary(reports, with_status.status(), demo.package)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an exception does, so that what it started is stopped."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_summary(
    summary: Summary, console: Console, tail: int, sought: str = "rows to find", clean: int = 0
) -> None:
    """What the stream came to.

    Args:
        summary: The figures of the stream.
        console: Where to print.
        tail: How many of the last batches get figures of their own.
        sought: What an alarm is about, in the plural.
        clean: Batches before the data changed; 0 where nobody knows.
    """
    tail = min(tail, len(summary.reports))
    whole, end = summary.figures(), summary.tail(tail).figures()
    late = f"last {tail}"
    shown = {
        "baseline (as packaged)": whole["frozen"],
        "served (healed)": whole["champion"],
        f"baseline, {late}": end["frozen"],
        f"served, {late}": end["champion"],
    }
    print_figures(shown, summary.majority, console)
    status = summary.status
    say(
        console,
        f"lift {summary.lift} (accuracy, 95 % interval)   {counted(status['heals'], 'heal')}   "
        f"{counted(status['promotions'], 'promotion')}   "
        f"{counted(status['rollbacks'], 'rollback')}   "
        f"serving snapshot {status['serving']['version']}",
    )
    say(console, "\nwhat happened", "bold")
    say(console, _healed_from(summary, clean))
    say(
        console,
        f"in the last {counted(tail, 'batch', 'batches')}, the model as it was packaged would have "
        f"been right on {end['frozen']['accuracy']:.0%} of the rows, and what was served was "
        f"right on {end['champion']['accuracy']:.0%}",
    )
    say(console, caught(whole["frozen"], whole["champion"], sought), "bold")
    say(
        console,
        f"predictions went on all the while; {_taken_back(status)}, and the packaged model itself "
        "is unchanged",
    )
    if left_out := new_classes(status["new_classes"]["classes"]):
        say(console, left_out)


def _healed_from(summary: Summary, clean: int) -> str:
    """When the data changed, where that is known, and from when on a healed model served."""
    moved = f"the data changed after batch {clean}; " if clean else ""
    for report in summary.reports:
        if "promote" in report.action:
            return f"{moved}healed models served from batch {report.number + 1} on"
    return f"{moved}no healed model went into service"


def _taken_back(status: Mapping[str, Any]) -> str:
    """How many healed models went into service, and how many of them failed."""
    models = counted(status["promotions"], "healed model")
    back = status["rollbacks"]
    return f"{models} went into service and {back or 'none'} had to be taken back"


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
    return "  ".join(f"{name:>{width}}" for name, width in COLUMNS) + "  action"


def _line(r: BatchReport) -> str:
    values = (
        str(r.number), r.state, f"{r.z:.2f}", str(r.conflicts), f"{r.shadow.accuracy:.2f}",
        f"{r.champion.accuracy:.2f}", f"{r.lift:+.2f}", str(r.version),
    )  # fmt: skip
    cells = [f"{v:>{width}}" for v, (_, width) in zip(values, COLUMNS, strict=True)]
    return "  ".join(cells) + f"  {r.action}"
