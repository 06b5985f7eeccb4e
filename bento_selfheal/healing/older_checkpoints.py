"""Checkpoints of older releases, brought to the form in which each part keeps its own state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

OLDEST = 4
"""The oldest format that can be read."""
PARTS_FROM = 6
"""The first format in which each part keeps its own state."""

States = dict[str, dict[str, Any]]
Facts = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def lift(facts: Facts, tensors: Tensors) -> States:
    """The state of each part, from the facts and tensors of formats 4 and 5.

    Raises:
        KeyError: One is missing.
    """
    return {
        "cursors": {
            "start_from": facts["start_from"],
            "predictions": facts["predictions_from"],
            "feedback": facts["feedback_from"],
            "commands": facts["commands_from"],
            "promotions": facts["promotion_seq"],
        },
        "controls": {
            "paused": facts["paused"],
            "told_to_observe": facts.get("told_to_observe", False),
        },
        "shown": {"state": facts["state"]},
        "scoreboard": _scoreboard(facts),
        "drift": _drift(facts, tensors),
        "batches": _batches(facts, tensors),
        "buffer": _buffer(facts, tensors),
        "history": {
            "snapshots": facts["history"],
            "measured": facts["measured"],
            "trained": {},
            "next_version": facts["next_version"],
        },
        "lineage": {"serving": facts["serving"], "predecessor": facts["home"]},
        "policy": {"point": facts["operating"], "calibration": facts["calibration"]},
        "line": _line(facts, tensors),
        "rollback": {"regret": facts["regret"], "health": facts["health"]},
    }


def _scoreboard(facts: Facts) -> dict[str, Any]:
    counts = dict(facts["tally"])
    counts["baseline"] = counts.pop("shadow")
    return {
        "counts": counts,
        "last": facts["last"],
        "delay": facts["delay"],
        "advice": {name: facts[name] for name in ("lifts", "reached", "retrain")},
        "rules": {"counts": facts["rules"], "trust": facts["trust"]},
    }


def _drift(facts: Facts, tensors: Tensors) -> dict[str, Any]:
    names = ("reading", "fidi", "agreement", "recent", "fallen")
    return {
        "open_rows": tensors["open_rows"],
        "open_answers": tensors["open_answers"],
        "signals": {**{name: facts[name] for name in names}, "detectors": facts["watch"]},
        "estimate": facts["estimate"],
        "heal_requested": facts["asked"],
        "changed": facts["changed"],
        "unlabelled": facts["unlabelled"],
    }


def _batches(facts: Facts, tensors: Tensors) -> dict[str, Any]:
    return {
        "rows": tensors["open_label_rows"],
        "open": facts["open_labels"],
        "opened_at": facts["opened_at"],
        "opened_time": facts.get("opened_time", 0.0),
        "waiting": facts["waiting"],
        "unmatched": facts["unmatched"],
        "sources": facts["sources"],
        "set_aside": {},
    }


def _buffer(facts: Facts, tensors: Tensors) -> dict[str, Any]:
    names = ("features", "labels", "weights", "places", "keys")
    return {
        **{name: tensors[f"buffer_{name}"] for name in names},
        "sources": facts["buffer_sources"],
    }


def _line(facts: Facts, tensors: Tensors) -> dict[str, Any]:
    prefixes = ("challenger.", "average.", "moments.")
    names = ("rounds", "seen", "trial", "gate", "losses", "healed_at", "anchor_fitted")
    return {
        **{name: value for name, value in tensors.items() if name.startswith(prefixes)},
        **{name: facts[name] for name in names},
        "anchor": tensors["anchor"],
        "rows_per_label": facts["pace"],
    }
