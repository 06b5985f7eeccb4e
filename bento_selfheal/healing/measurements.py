"""The figures of a pipeline's moment, flat, as charts and exports want them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bento_selfheal.core.records import Measurement
from bento_selfheal.scoring.scores import batch_interval

if TYPE_CHECKING:
    from bento_selfheal.healing.pipeline import Pipeline

SECONDS = 1.0
"""Signals alone are measured no more often than this."""


def measurement_of(p: Pipeline, *, scored: bool) -> Measurement:
    """This moment; with ``scored`` what the labelled batch that just ended was worth as well."""
    figures = {**_signals(p), **(_scores(p) if scored else {})}
    return Measurement(
        time.time(), p.scoreboard.batches, p.scoreboard.labelled_batches, scored, figures
    )


def _signals(p: Pipeline) -> dict[str, Any]:
    reading = p.drift.reading
    return {
        "state": p.state.value,
        "version": p.serving.version if p.serving else None,
        "z": reading.z,
        "conflicts": reading.conflicts,
        "estimate": p.estimate.accuracy,
        "rows": p.scoreboard.predicted,
        "labels": p.scoreboard.joined,
    }


def _scores(p: Pipeline) -> dict[str, Any]:
    lift, last = batch_interval(p.limit.lifts), p.last
    champion, shadow = last["champion"], last["shadow"]
    challenger = last.get("challenger") or {}
    evidence = p.gate.evidence() if p.trial is not None else {}
    return {
        **{name: champion[name] for name in ("accuracy", "f1", "precision", "recall")},
        "shadow_accuracy": shadow["accuracy"],
        "shadow_f1": shadow["f1"],
        "challenger_accuracy": challenger.get("accuracy"),
        "lift": last["lift"],
        "lift_mean": lift.mean,
        "lift_low": lift.low,
        "lift_high": lift.high,
        "cost": last["cost"]["champion"],
        "shadow_cost": last["cost"]["shadow"],
        "delay_seconds": p.delay,
        "log_e": evidence.get("log_e"),
        "log_e_needed": evidence.get("log_e_needed"),
        "heals": p.scoreboard.heals,
        "promotions": p.scoreboard.promotions,
        "rollbacks": p.scoreboard.rollbacks,
        "action": last["action"],
    }
