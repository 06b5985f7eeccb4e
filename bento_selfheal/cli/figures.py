"""Figures of models side by side, as tables that people can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bento_selfheal.cli.terminal import add_row, say
from bento_selfheal.core.text import counted

if TYPE_CHECKING:  # torch comes with it, and no command waits for torch to print
    from bento_selfheal.simulation.figures import Figures

WORST = 5
"""Segments that a backtest names."""
MOST_DRIFTS = 5
"""Newest drifts that a backtest prints."""
NO_RANKING = "AUC and average precision need scikit-learn: pip install 'bento-selfheal[backtest]'"


def print_figures(models: Mapping[str, Figures], majority: float, console: Console) -> None:
    """What models decided, how they rank, and what the same number of alarms catches.

    Args:
        models: The figures of each model by its name, one at least.
        majority: Accuracy of always answering the commonest class.
        console: Where to print.
    """
    many = any(_of_many(f) for f in models.values())
    console.print(_decided(models, majority, ("mean_recall",) if many else ("recall", "precision")))
    console.print(_ranked(models, alarms=not many))
    if all(f["log_loss"] is None for f in models.values()):
        say(console, NO_RANKING)


def caught(frozen: Figures, served: Figures, sought: str) -> str:
    """What the same number of alarms catches, in a sentence; of more than two classes, what share
    of the rows was answered right.

    Args:
        frozen: Figures of the frozen model.
        served: Figures of what was served.
        sought: What an alarm is about, in the plural.
    """
    if _of_many(served):
        return (
            f"the baseline answers {frozen['accuracy']:.1%} of the rows right, and what was served "
            f"{served['accuracy']:.1%}"
        )
    return (
        f"with the same {served['alarms']} alarms, the baseline catches {frozen['caught']} of "
        f"{frozen['to_catch']} {sought}, and what was served {served['caught']}"
    )


def _of_many(figures: Figures) -> bool:
    """Whether they are of more than two classes, of which no alarm or single recall speaks."""
    return figures["mean_recall"] is not None


def _decided(models: Mapping[str, Figures], majority: float, shown: Sequence[str]) -> Table:
    keys = ("accuracy", *shown)
    table = _table("decisions on the same rows, before their label was known",
                   *(key.replace("_", " ") for key in keys), "cost per 1,000 rows")  # fmt: skip
    for name, f in models.items():
        each = (_number(f[key]) for key in keys)
        add_row(table, name, *each, f"{1000 * (f['cost'] or 0.0):,.0f}")
    add_row(table, "always the commonest class", _number(majority), *[""] * len(keys))
    return table


def _ranked(models: Mapping[str, Figures], *, alarms: bool) -> Table:
    ranks = ("AUC", "average precision", "log loss")
    if alarms:
        title = "ranking, and what the same number of alarms catches"
        table = _table(title, *ranks, "alarms", "caught")
    else:
        table = _table("ranking, each class against the others", *ranks)
    for name, f in models.items():
        shown = [_number(f[key]) for key in ("auc", "average_precision", "log_loss")]
        caught = [f"{f['alarms']}", f"{f['caught']} of {f['to_catch']}"] if alarms else []
        add_row(table, name, *shown, *caught)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column("model", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def new_classes(counts: dict[str, int]) -> str:
    """How many rows are of classes that the model was not trained on; empty where none is.

    >>> new_classes({"grey": 3, "blue": 1})
    'not in the figures: 4 labels of classes that were not trained on: grey 3, blue 1'
    """
    if not counts:
        return ""
    named = ", ".join(f"{name} {count}" for name, count in counts.items())
    total = sum(counts.values())
    words = "label" if total == 1 else "labels"
    return f"not in the figures: {total} {words} of classes that were not trained on: {named}"


def of_labels(result: Mapping[str, Any]) -> list[str]:
    """What is to be known of the labels that a backtest had: which count, and what they prove."""
    lines = [new_classes(result.get("new_classes", {}))]
    if waits := result.get("unreported"):
        lines.append(f"unreported: {matured(waits)}")
    if known := result.get("review"):
        lines.append(f"review: {known}")
    if reason := result.get("one_sided"):
        lines.append(f"one-sided labels, of which nothing is learned: {reason}")
    return [*(line for line in lines if line), *worst_segments(result.get("segments", []))]


def drift_lines(drifts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every drift and its causes, in words; of many the newest.

    >>> drift_lines([{"batch": 64, "causes": {"kind": "concept drift",
    ...     "sentence": "no input moved; the meaning of sky changed"}}])
    ['drift at labelled batch 64: concept drift: no input moved; the meaning of sky changed']
    """
    more = len(drifts) - MOST_DRIFTS
    lines = [
        f"drift at labelled batch {one['batch']}: {one['causes']['kind']}: "
        f"{one['causes']['sentence']}"
        for one in drifts[-MOST_DRIFTS:]
    ]
    return [f"{counted(more, 'earlier drift')}; --json names them", *lines] if more > 0 else lines


def worst_segments(segments: Sequence[Mapping[str, Any]]) -> list[str]:
    """The segments that are worst off, in words: those with the lowest lift first.

    >>> lift = {"mean": -0.02, "low": -0.05, "high": 0.01}
    >>> worst_segments([{"segment": "sky = fog", "labels": 90, "frozen": 0.9, "served": 0.88,
    ...     "lift": lift, "verdict": "not worse"}])
    ['segment sky = fog: accuracy 0.900 before, 0.880 served, lift -0.020 [-0.050, +0.010] on 90 \
labels; not worse']
    """
    known = [one for one in segments if one["lift"] is not None]
    worst = sorted(known, key=lambda one: float(one["lift"]["mean"]))[:WORST]
    return [
        f"segment {one['segment']}: accuracy {one['frozen']:.3f} before, {one['served']:.3f} "
        f"served, lift {one['lift']['mean']:+.3f} [{one['lift']['low']:+.3f}, "
        f"{one['lift']['high']:+.3f}] on {counted(one['labels'], 'label')}; {one['verdict']}"
        for one in worst
    ]


def matured(waits: Mapping[str, Any]) -> str:
    """Which rows count where one class is never reported, and how old they are."""
    age = waits["age_seconds"]
    newest = "none is old enough yet" if age is None else f"the newest is {_age(age)} old"
    lost = f", {counted(waits['lost'], 'request')} lost before that" if waits["lost"] else ""
    return (
        f"{counted(waits['rows'], 'row')} counted, {newest}; {waits['unreported']} of them as "
        f"class {waits['class']}, {counted(waits['early'], 'label waits', 'labels wait')}, "
        f"{waits['late']} came late{lost}"
    )


def _age(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else f"{seconds:.0f} s"


def runner_state(status: Mapping[str, Any]) -> str:
    """Whether the runner heals."""
    if not status.get("runner_alive"):
        return "not alive: nothing heals"
    if behind := status.get("behind"):
        since = f"behind, what came {behind['seconds']:.0f} s ago is not read"
        return f"{since}: {behind['reason']}; {behind['advice']}"
    if status.get("rebuilding"):
        return "alive; it builds what was learned anew without erased rows, and new labels wait"
    return "alive"


def print_models(models: Mapping[str, Any], console: Console, *, url: str) -> None:
    """The models of a service, and how to see one of them.

    Args:
        models: What the service's `/status` says of each, by its name.
        console: Where to print.
        url: Address of the service.
    """
    table = Table()
    for heading in ("model", "state", "lift", "version", "attention"):
        table.add_column(heading, overflow="fold")
    for name, one in models.items():
        lift = one["lift"]
        add_row(
            table, name, one["state"] or ("starting" if one["serves"] else "does not serve"),
            "-" if not lift else f"{lift['mean']:+.3f} [{lift['low']:+.3f}, {lift['high']:+.3f}]",
            one.get("serving_version") or "-", "; ".join(one["attention"]) or "-",
        )  # fmt: skip
    console.print(table)
    say(console, f"to see one: bento-selfheal status --url {url.rstrip('/')}/{next(iter(models))}")


def remarks(status: Mapping[str, Any]) -> dict[str, str]:
    """What a status has to say only where there is something: the causes of the newest drift,
    classes and labels that are missing, feeds."""
    return {
        **_causes(status),
        **_one_class(status),
        **_feeds(status),
        **_webhooks(status),
        **_one_sided(status),
    }


def _causes(status: Mapping[str, Any]) -> dict[str, str]:
    """Why it drifted last."""
    causes = status.get("causes")
    return {"causes": f"{causes['kind']}: {causes['sentence']}"} if causes else {}


def _one_class(status: Mapping[str, Any]) -> dict[str, str]:
    reason = status.get("one_class", {}).get("reason")
    return {"one class": reason} if reason else {}


def _feeds(status: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"feed {feed['name']}": feed["failing"].removeprefix(f"feed {feed['name']}: ")
        or f"{counted(feed['rows'], 'row')}, {feed['accepted']:,} accepted, "
        f"{feed['rejected'] + feed['in_conflict']:,} not kept"
        for feed in status.get("feeds", ())
    }


def _webhooks(status: Mapping[str, Any]) -> dict[str, str]:
    """What each webhook has delivered, and why it fails."""
    return {
        f"webhook {hook['name']}": (f"fails: {hook['failing']}; " if hook["failing"] else "")
        + f"{hook['delivered']:,} delivered, {hook['waiting']:,} waiting"
        + (f", {hook['given_up']:,} given up" if hook["given_up"] else "")
        for hook in status.get("webhooks", ())
    }


def _one_sided(status: Mapping[str, Any]) -> dict[str, str]:
    """What labels are missing, and how old the rows are that count where others wait."""
    reason = status.get("one_sided", {}).get("reason")
    waits = status.get("unreported")
    return {
        **({"one-sided labels": reason} if reason else {}),
        **({"unreported": matured(waits)} if waits else {}),
    }
