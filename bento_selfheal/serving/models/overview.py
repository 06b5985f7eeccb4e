"""What a list of models says of each: its state, its lift and what needs attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def summary(name: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """A model that serves.

    Args:
        name: Its name.
        status: As its own ``/status`` shows it.
    """
    serving = status.get("serving") or {}
    return {
        "path": f"{name}/",
        "serves": True,
        "state": status.get("state"),
        "lift": status.get("lift"),
        "serving_version": serving.get("version"),
        "predicted_rows": status.get("predicted_rows", 0),
        "labels": (status.get("labels") or {}).get("joined", 0),
        "attention": list(_attention(status)),
    }


def broken(name: str, why: str) -> dict[str, Any]:
    """A model that does not serve."""
    return {"path": f"{name}/", "serves": False, "state": None, "lift": None, "attention": [why]}


def _attention(status: Mapping[str, Any]) -> Iterator[str]:
    if not status.get("runner_alive"):
        yield "no healing runner leads"
    if behind := status.get("behind"):
        yield f"the runner is behind: {behind['reason']}"
    if trouble := status.get("trouble"):
        yield f"the runner is in trouble: {trouble}"
    if retrain := status.get("retrain"):
        yield f"a retrain is needed: {retrain}"
    if (status.get("one_class") or {}).get("alarm"):
        yield "every row is given the same class"
    if (status.get("one_sided") or {}).get("alarm"):
        yield "labels come for one class only, so nothing is promoted on them"
