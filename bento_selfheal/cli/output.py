"""Results as tables that people can read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bento_selfheal.cli.figures import (
    caught,
    drift_lines,
    of_labels,
    print_figures,
    remarks,
    runner_state,
)
from bento_selfheal.cli.terminal import add_row, literal, say
from bento_selfheal.core.log.told import told
from bento_selfheal.core.text import counted

if TYPE_CHECKING:
    from bento_selfheal.reports.doctor import Finding
    from bento_selfheal.simulation.article_results import ExperimentResult


STAGE_NAMES = {
    "clean": "clean",
    "drift_no_healing": "drift, no healing",
    "shadow": "shadow, frozen",
    "self_healed": "self-healed",
}


def print_experiment(result: ExperimentResult, console: Console) -> None:
    """The article's table, its log by batch, its registry and the figures beside them."""
    console.print(_stages(result))
    console.print(_log(result))
    console.print(_registry(result))
    facts = result.as_dict()
    lift, before, best = facts["lift"], facts["lift_before_heal"], facts["best_snapshot"]
    say(
        console,
        f"mu {result.mu:.3f}   sigma {result.sigma:.3f}   "
        f"V14 mean {result.v14_clean:.3f} clean, {result.v14_drifted:.3f} drifted\n"
        f"lift per batch {lift['min']:+.3f} to {lift['max']:+.3f}, mean {lift['mean']:+.3f} "
        f"(on the batch just healed on; before the heal {before['mean']:+.3f})\n"
        f"{counted(result.heals, 'heal')} in {len(result.log)} batches   "
        f"{counted(result.rollbacks, 'rollback')}",
    )
    if best is not None:
        say(
            console,
            f"best post-heal snapshot: version {best['version']}, batch {best['batch']}, "
            f"accuracy {best['accuracy']:.3f}, F1 {best['f1']:.3f}",
        )


def print_backtest(result: dict[str, Any], console: Console) -> None:
    """What a backtest came to."""
    models = {name: result[name] for name in ("frozen", "champion", "challenger")}
    print_figures(models, result["majority"], console)
    lift = result["lift"]
    say(
        console,
        f"lift {lift['accuracy']:+.4f} [{lift['low']:+.4f}, {lift['high']:+.4f}] (accuracy, 95 % "
        f"interval)   {_changes(result)}   "
        f"{result['seconds']:.1f} s",
    )
    say(console, caught(result["frozen"], result["champion"], "rows to find"), "bold")
    for line in of_labels(result):
        say(console, line)
    for line in drift_lines(result.get("drifts", [])):
        say(console, line)
    for rule in result.get("rules", []):
        say(
            console,
            f"rule {rule['rule']}: fires on {_figure(rule['coverage'])} of the newest labelled "
            f"rows, and is right on {_figure(rule['precision'])} of these",
        )
    for other in result.get("tries", []):
        better = other["better"]
        names = ", ".join(f"{name}={value}" for name, value in other["settings"].items())
        say(
            console,
            f"with {names or 'the same settings'}: accuracy {other['champion']['accuracy']:.4f}, "
            f"{better['accuracy']:+.4f} [{better['low']:+.4f}, {better['high']:+.4f}] against it   "
            f"{_changes(other)}",
        )


def _stages(result: ExperimentResult) -> Table:
    table = _table("stages", "stage", "acc", "precision", "recall", "F1", "TP", "TN", "FP", "FN")
    for key, name in STAGE_NAMES.items():
        s = result.stages[key]
        add_row(
            table,
            name, f"{s.accuracy:.1%}", f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}",
            str(s.tp), str(s.tn), str(s.fp), str(s.fn),
        )  # fmt: skip
    return table


def _log(result: ExperimentResult) -> Table:
    table = _table("batches", "batch", "state", "z", "conflicts", "shadow", "acc", "F1", "lift",
                   "action")  # fmt: skip
    for row in result.log:
        add_row(
            table,
            str(row.batch), row.state, f"{row.z:.2f}", str(row.conflicts), f"{row.shadow:.2f}",
            f"{row.accuracy:.2f}", f"{row.f1:.3f}", f"{row.lift:+.2f}", row.action,
        )  # fmt: skip
    return table


def _registry(result: ExperimentResult) -> Table:
    best = result.best_snapshot
    table = _table("registry", "version", "phase", "batch", "acc", "F1", "reason")
    for row in result.registry:
        mark = " (best)" if best is not None and row.version == best.version else ""
        add_row(
            table,
            f"{row.version}{mark}", row.phase, str(row.batch), f"{row.accuracy:.3f}",
            f"{row.f1:.3f}", row.reason,
        )  # fmt: skip
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right" if name not in ("state", "action") else "left")
    return table


def print_suggestion(found: dict[str, Any], console: Console) -> None:
    """How the file was read, what was left out, sensitive features and candidate rules."""
    say(console, "; ".join(found["notes"]))
    for name, why in found["left_out"].items():
        say(console, f"column {name!r}: {why}")
    names = ", ".join(f"{name} ({found['strength'][name]:.2f})" for name in found["sensitive"])
    say(console, f"sensitive features: {names or 'none stands out'}")
    if not found["rules"]:
        say(console, "no rule holds on rows that it was not chosen on")
        return
    grid = Table(title="candidate rules, measured on held-out rows")
    for column in ("rule", "class", "precision", "coverage", "recall", "F1"):
        grid.add_column(column, justify="left" if column in {"rule", "class"} else "right")
    for row in found["rules"]:
        add_row(
            grid,
            row["condition"], str(row["class"]),
            *(f"{row[name]:.3f}" for name in ("precision", "coverage", "recall", "f1")),
        )  # fmt: skip
    console.print(grid)


def print_status(status: dict[str, Any], console: Console) -> None:
    """Where a service stands, in the order in which one would ask."""
    grid = Table.grid(padding=(0, 2))
    held = (
        " (paused)" if status["paused"] else " (observing)" if status["mode"] == "observe" else ""
    )
    rows = {
        "state": f"{status['state']}{held}",
        "model": status["model"],
        "runner": runner_state(status),
        "drift": _drift(status["signals"]),
        **_worth(status),
        "labels": _labels(status),
        "serving": f"snapshot {(status['serving'] or {}).get('version')}{_canary(status)}",
        "done": f"{counted(status['heals'], 'heal')}, {_changes(status)}",
        **{name: status[name] for name in ("retrain", "trouble") if status.get(name)},
        **remarks(status),
    }
    for name, value in rows.items():
        add_row(grid, literal(name, "bold"), value)
    console.print(grid, highlight=False)


def _drift(signals: Mapping[str, Any]) -> str:
    limit = f"{signals['z']:.2f} of {signals['fidi_threshold']:g}"
    z = f"z {limit} on {signals['feature']}" if signals["feature"] else "no feature is watched yet"
    out = f"{z}, {counted(signals['conflicts'], 'conflict')} of {signals['conflict_min']}"
    if signals.get("distance_limit") is None:
        return out
    where = f" on {', '.join(signals['differing'])}" if signals["differing"] else ""
    distance = round(signals["distance"], 2) + 0  # not -0.00
    return f"{out}, distance {distance:.2f} of {signals['distance_limit']:.2f}{where}"


def _canary(status: Mapping[str, Any]) -> str:
    if (c := status.get("canary")) is None:
        return ""
    return (
        f"; snapshot {c['version']} answers {c['share']:.0%} first since {_moment(c['since'])}, "
        f"{c['labels']} of {c['labels_needed']} labels"
    )


def _worth(status: Mapping[str, Any]) -> dict[str, str]:
    """What was served, against the frozen model; no figures before the first labelled batch."""
    last, lift = status.get("last"), status["lift"]
    if not last:
        return {"accuracy": "not known: no batch of labels is complete yet"}
    served, frozen = _figure(last["champion"]["accuracy"]), _figure(last["shadow"]["accuracy"])
    return {
        "accuracy": f"served {served}, frozen {frozen}, on the newest labelled batch; always the "
        f"commonest class {_figure(status.get('majority'))}, on all labels",
        "lift": f"{lift['mean']:+.3f} [{lift['low']:+.3f}, {lift['high']:+.3f}]",
    }


def _labels(status: Mapping[str, Any]) -> str:
    labels = status["labels"]
    late = "" if labels["delay_seconds"] is None else f", {labels['delay_seconds']:.1f} s late"
    waits = f"{labels.get('waiting', 0)} waiting, {labels['unmatched']} unmatched{_unread(status)}"
    rows = counted(status["predicted_rows"], "row")
    return f"{labels['joined'] or 'none yet'}{late}; {rows} predicted, {waits}"


def print_snapshots(
    snapshots: list[dict[str, Any]], console: Console, *, many: bool = False
) -> None:
    """Kept snapshots, newest first; F1 only where the classes are not many."""
    f1 = [] if many else ["F1"]
    table = _columns("version", "phase", "labels", "accuracy", *f1, "made", "")
    for s in reversed(snapshots):
        marks = " ".join(word for word in ("serving", "previous") if s[word])
        marks += f" {s['share']:.0%}" if 0 < s["share"] < 1 else ""
        add_row(
            table,
            str(s["version"]), s["phase"], str(s["rows"]), _figure(s["accuracy"]),
            *([] if many else [_figure(s["f1"])]), _moment(s["time"]), marks,
        )  # fmt: skip
    console.print(table)


def print_promotions(promotions: list[dict[str, Any]], console: Console) -> None:
    """What served when, newest last."""
    table = _columns("when", "what", "snapshot", "by", "reason")
    for p in promotions:
        add_row(table, _moment(p["time"]), p["kind"], str(p["version"]), p["by"], p["reason"])
    console.print(table)


def print_events(events: list[dict[str, Any]], console: Console) -> None:
    """What happened, newest last."""
    table = _columns("when", "batch", "what", "detail")
    for e in events:
        add_row(table, _moment(e["time"]), str(e["batch"]), e["kind"], told(e))
    console.print(table)


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """What the doctor found, with how to fix it."""
    table = _columns("", "what", "found", "to do")
    marks = {
        "good": literal("ok", "green"),
        "warn": literal("check", "yellow"),
        "bad": literal("fix", "red"),
    }
    for f in findings:
        add_row(table, marks[f.grade], f.what, f.found, f.mend)
    console.print(table)


def _changes(result: Mapping[str, Any]) -> str:
    return (
        f"{counted(result['promotions'], 'promotion')}, {counted(result['rollbacks'], 'rollback')}"
    )


def _columns(*names: str) -> Table:
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _unread(status: Mapping[str, Any]) -> str:
    count = status.get("unread", {}).get("labels", 0)
    return f", {count} not read yet" if count else ""


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
