"""Figures of models side by side, as tables that people can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bento_selfheal.cli.terminal import add_row, say

if TYPE_CHECKING:  # torch comes with it, and no command waits for torch to print
    from bento_selfheal.simulation.figures import Figures

NO_RANKING = "AUC and average precision need scikit-learn: pip install 'bento-selfheal[backtest]'"


def print_figures(models: Mapping[str, Figures], majority: float, console: Console) -> None:
    """What models decided, how they rank, and what the same number of alarms catches.

    Args:
        models: The figures of each model by its name, one at least.
        majority: Accuracy of always answering the commonest class.
        console: Where to print.
    """
    decided = _table("decisions on the same rows, before their label was known", "accuracy",
                     "recall", "precision", "cost per 1,000 rows")  # fmt: skip
    for name, f in models.items():
        shown = (_number(f[key]) for key in ("accuracy", "recall", "precision"))
        add_row(decided, name, *shown, f"{1000 * (f['cost'] or 0.0):,.0f}")
    add_row(decided, "always the commonest class", _number(majority), "", "", "")
    ranked = _table("ranking, and what the same number of alarms catches", "AUC",
                    "average precision", "log loss", "alarms", "caught")  # fmt: skip
    for name, f in models.items():
        shown = (_number(f[key]) for key in ("auc", "average_precision", "log_loss"))
        add_row(ranked, name, *shown, f"{f['alarms']}", f"{f['caught']} of {f['to_catch']}")
    console.print(decided)
    console.print(ranked)
    if all(f["log_loss"] is None for f in models.values()):
        say(console, NO_RANKING)


def caught(frozen: Figures, served: Figures, sought: str) -> str:
    """What the same number of alarms catches, in a sentence.

    Args:
        frozen: Figures of the frozen model.
        served: Figures of what was served.
        sought: What an alarm is about, in the plural.
    """
    return (
        f"with the same {served['alarms']} alarms, the frozen model catches {frozen['caught']} of "
        f"{frozen['to_catch']} {sought}, and what was served {served['caught']}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column("model", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
