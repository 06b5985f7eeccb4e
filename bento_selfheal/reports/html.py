"""The report: one HTML file that needs no other file."""

from __future__ import annotations

import io
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bento_selfheal.core.text import visible
from bento_selfheal.reports.plots import PLOTS, drawn
from bento_selfheal.reports.report_data import ReportData
from bento_selfheal.scoring.scores import batch_interval

TEMPLATE = Path(__file__).parent / "report.html.j2"
KINDS_LEFT_OUT = {"undecided", "change"}


def render_report(data: ReportData) -> str:
    """The report: figures, plots, promotions with their evidence, events and snapshots."""
    # First: they raise the error that names a missing extra.
    plots = {name: _svg(data, name) for name in PLOTS}
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_shown)
    environment.filters["moment"] = _moment
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(
        data=data,
        facts=_facts(data),
        plots=plots,
        events=[e for e in data.events if e["kind"] not in KINDS_LEFT_OUT],
        made=time.time(),
    )


def _shown(value: Any) -> Any:
    """Text from the store with its control characters escaped; pictures stay as they are."""
    plain = isinstance(value, str) and not hasattr(value, "__html__")
    return visible(value) if plain else value


def _facts(data: ReportData) -> dict[str, Any]:
    batches, kinds = data.batches, Counter(e["kind"] for e in data.events)
    lift = batch_interval([row["lift"] for row in batches])
    count = max(len(batches), 1)
    return {
        "labelled batches": len(batches),
        "accuracy served, mean of batches": sum(r["accuracy"] for r in batches) / count,
        "accuracy of the baseline": sum(r["shadow_accuracy"] for r in batches) / count,
        "lift, 95 % interval": str(lift) if len(batches) > 1 else "too few batches",
        "heals": kinds["heal"],
        "promotions": kinds["promote"],
        "rollbacks": kinds["rollback"],
    }


def _svg(data: ReportData, name: str) -> str:
    text = io.StringIO()
    with drawn(data, name) as figure:
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
