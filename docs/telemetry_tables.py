"""Write the tables of telemetry.md from the code: `make docs`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bento_selfheal.telemetry.listed import ALL_METRICS
from bento_selfheal.telemetry.metric import Metric
from bento_selfheal.telemetry.names import ATTRIBUTES, SPANS

PAGE = Path(__file__).parent / "telemetry.md"


def tables() -> dict[str, str]:
    """Each table by the mark that it stands between."""
    return {
        "spans": table(["span", "what it covers"], ([code(k), v] for k, v in SPANS.items())),
        "attributes": table(
            ["attribute", "type", "meaning"],
            ([code(name), *told] for name, told in ATTRIBUTES.items()),
        ),
        "metrics": table(
            ["OpenTelemetry", "kind", "unit", "on `/metrics`", "meaning"],
            (metric_row(metric) for metric in ALL_METRICS),
        ),
    }


def metric_row(metric: Metric) -> Iterator[str]:
    label = f"{{{metric.label}}}" if metric.attribute else ""
    yield code(metric.name) + (f" by `{metric.attribute}`" if metric.attribute else "")
    yield metric.kind
    yield code(metric.unit)
    yield code(metric.prometheus + label)
    yield metric.description


def table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    return f"`{text}`"


def written(page: str) -> str:
    """The page with its tables as the code has them now."""
    for mark, body in tables().items():
        pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
        page = re.sub(pattern, lambda m, b=body: f"{m[1]}{b}\n{m[2]}", page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
