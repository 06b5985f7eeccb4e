"""The article's eight plots, of a period of a store or of the experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bento_selfheal.core.records import Phase, State
from bento_selfheal.core.text import counted
from bento_selfheal.errors import SettingsError
from bento_selfheal.reports.report_data import ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


STYLE: dict[Any, Any] = {
    "figure.dpi": 150, "savefig.bbox": "tight", "font.size": 9, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.grid": True, "grid.color": "#dfe3e8", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "svg.hashsalt": "bento_selfheal", "svg.fonttype": "none",
}  # fmt: skip
CHAMPION, SHADOW, CHALLENGER, LIMIT = "#1f5fc4", "#7d8590", "#c26a10", "#c0271f"
STATE_COLORS = {
    State.HEALTHY: "#1a7f4b", State.DRIFTING: "#d99a00", State.HEALING: CHAMPION,
    State.RETRAIN_NEEDED: LIMIT, State.ROLLED_BACK: "#7a3ec8",
}  # fmt: skip
WORDS = {"f1": "F1"}
"""Figures that are written otherwise than they are named."""


def accuracy(data: ReportData, axes: Axes) -> None:
    """Accuracy of what was served, of the frozen model and of a challenger or baseline."""
    lines = (
        ("accuracy", "served (healed)", CHAMPION, "-", 1.8),
        ("shadow_accuracy", "frozen shadow", SHADOW, "--", 1.4),
        ("challenger_accuracy", "challenger", CHALLENGER, "-", 1.0),
        ("baseline", "baseline", CHALLENGER, ":", 1.4),
    )
    for name, label, color, style, width in lines:
        _line(data, axes, name, label=label, color=color, linestyle=style, linewidth=width)
    axes.set(title="Accuracy on labels that came later", ylabel="accuracy", ylim=(0, 1))
    axes.legend(loc="lower right", ncols=3)


def lift(data: ReportData, axes: Axes) -> None:
    """Lift per batch, and its mean with the 95 % interval where known."""
    x, values = _series(data, "lift")
    axes.bar(x, values, color=[CHAMPION if v >= 0 else LIMIT for v in values], alpha=0.55)
    x, mean = _series(data, "lift_mean")
    if x:
        _, low = _series(data, "lift_low")
        _, high = _series(data, "lift_high")
        axes.fill_between(x, low, high, color=CHAMPION, alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=CHAMPION, label="mean, 95 % interval")
        floor = min(0.0, *values) - 0.05
        axes.set_ylim(max(floor, -1), min(max(*values, 0.1) + 0.1, 1))
        axes.legend(loc="upper left")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title="Lift over the frozen shadow", ylabel="accuracy gained")


def drift(data: ReportData, axes: Axes) -> None:
    """FIDI's z with its threshold."""
    _line(data, axes, "z", label="z", color=CHAMPION)
    _limit(axes, data.limits["fidi_threshold"])
    axes.set(title="FIDI: z of the sensitive feature", ylabel="z")
    axes.legend(loc="lower right")


def states(data: ReportData, axes: Axes) -> None:
    """The state of each batch."""
    names = list(STATE_COLORS)
    numbers = [row["batch"] for row in data.batches]
    ends = [*numbers[1:], (numbers[-1] if numbers else 0) + 1]
    stretches = zip(data.batches, ends, strict=True)
    for state, group in groupby(stretches, key=lambda pair: pair[0]["state"]):
        rows = list(group)
        start = rows[0][0]["batch"] - 0.5
        axes.barh(
            names.index(State(state)), rows[-1][1] - 0.5 - start, left=start, height=0.6,
            color=STATE_COLORS[State(state)],
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [name.value for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(title="State")


def f1_and_rollbacks(data: ReportData, axes: Axes) -> None:
    """F1 of what was served (accuracy of many classes), and the batches with a rollback."""
    name, word = data.metrics[-1], _word(data.metrics[-1])
    _line(data, axes, name, label=f"{word} served", color=CHAMPION)
    _line(data, axes, f"shadow_{name}", label=f"{word} of the shadow", color=SHADOW, linestyle="--")
    at = sorted(e["batch"] for e in data.events if e["kind"] == "rollback")
    for number, batch in enumerate(at):
        axes.axvline(batch, color=LIMIT, linewidth=1, label="" if number else "rollback")
    axes.set(title=f"{word}, {counted(len(at), 'rollback')}", ylabel=word, ylim=(0, 1))
    axes.legend(loc="upper right", ncols=3)


def registry(data: ReportData, axes: Axes) -> None:
    """Every snapshot with labels: accuracy, and F1 of two classes."""
    name, word = data.metrics[-1], _word(data.metrics[-1])
    measured = [s for s in data.snapshots if s[name] is not None]
    markers = {Phase.CLEAN: "s", Phase.PRE: "o", Phase.POST: "^"}
    for phase, marker in markers.items():
        own = [s for s in measured if s["phase"] == phase]
        x = [s["version"] for s in own]
        axes.scatter(x, [s[name] for s in own], marker=marker, s=22, color=CHAMPION,
                     facecolors="none" if phase is Phase.PRE else CHAMPION,
                     label=f"{word}, {phase.value}")  # fmt: skip
        axes.scatter(x, [s["accuracy"] for s in own], marker=marker, s=16, color=SHADOW, alpha=0.6)
    for best in (s for s in measured if s["version"] == data.best):
        axes.annotate(
            f"best: {best['version']}", (best["version"], best[name]), (4, 6),
            textcoords="offset points", color=CHAMPION,
        )  # fmt: skip
    grey = "" if name == "accuracy" else ", and accuracy in grey"
    axes.set(title=f"Snapshots: {word}{grey}", xlabel="version", ylim=(0, 1))
    axes.legend(loc="lower right", fontsize=8)


def stages(data: ReportData, axes: Axes) -> None:
    """Accuracy, precision, recall and F1 at each stage; of many classes accuracy alone."""
    metrics = data.metrics
    width = 0.8 / max(len(data.stages), 1)
    colors = ["#1a7f4b", SHADOW, "#b9c0c9", CHAMPION]
    for number, (name, scores) in enumerate(data.stages.items()):
        places = [i + (number - (len(data.stages) - 1) / 2) * width for i in range(len(metrics))]
        bars = axes.bar(
            places, [scores[m] for m in metrics], width * 0.92,
            label=name.replace("_", " "), color=colors[number % len(colors)],
        )  # fmt: skip
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    axes.set_xticks(range(len(metrics)), [_word(m) for m in metrics])
    axes.set(title="Metrics at each stage", ylim=(0, 1.08))
    axes.legend(loc="upper right", fontsize=8, ncols=2)


def _word(metric: str) -> str:
    return WORDS.get(metric, metric)


PLOTS: dict[str, Callable[[ReportData, Any], None]] = {
    "accuracy": accuracy, "lift": lift, "drift": drift, "states": states,
    "f1_and_rollbacks": f1_and_rollbacks, "registry": registry, "stages": stages,
}  # fmt: skip
DASHBOARD = ("accuracy", "lift", "drift", "states")


def write_plots(data: ReportData, folder: Path, kind: str = "png") -> list[Path]:
    """Write the eight plots; the eighth is a dashboard of four panels.

    Args:
        data: What to draw.
        folder: Where to; made when it is missing.
        kind: ``png``, ``svg`` or ``pdf``.

    Returns:
        The files, in the article's order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, name in enumerate([*PLOTS, "dashboard"], start=1):
        path = folder / f"{number}_{name}.{kind}"
        with drawn(data, name) as figure:
            figure.savefig(path, metadata={"Date": None} if kind == "svg" else None)
        files.append(path)
    return files


@contextmanager
def drawn(data: ReportData, name: str) -> Iterator[Figure]:
    """One plot as a figure that is closed at the end.

    Raises:
        SettingsError: The extra ``plots`` is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise SettingsError("plots need: pip install 'bento-selfheal[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        if name == "dashboard":
            figure, grid = pyplot.subplots(2, 2, figsize=(11, 6.5), layout="constrained")
            for part, axes in zip(DASHBOARD, grid.flat, strict=True):
                _draw(data, part, axes)
            figure.suptitle(data.title, fontsize=11)
        else:
            figure, axes = pyplot.subplots(figsize=(7.2, 3.4), layout="constrained")
            _draw(data, name, axes)
        try:
            yield figure
        finally:
            pyplot.close(figure)


def _draw(data: ReportData, name: str, axes: Axes) -> None:
    if data.batches:
        PLOTS[name](data, axes)
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no labelled batch in this period", ha="center", va="center")
    if name not in ("registry", "stages"):
        axes.set_xlabel("labelled batch")


def _series(data: ReportData, name: str) -> tuple[list[float], list[float]]:
    rows = [row for row in data.batches if row.get(name) is not None]
    return [row["batch"] for row in rows], [row[name] for row in rows]


def _line(data: ReportData, axes: Axes, name: str, **style: Any) -> None:
    x, y = _series(data, name)
    if x:
        axes.plot(x, y, **style)


def _limit(axes: Axes, value: float) -> None:
    axes.axhline(value, color=LIMIT, linestyle="--", linewidth=1, label=f"threshold {value:g}")
