"""The figures of a pipeline's moment, flat, as charts and exports want them."""

from __future__ import annotations

import time
from typing import Any

from bento_selfheal.core.records import Measurement
from bento_selfheal.healing.parts import Parts


def measurement_of(p: Parts, *, scored: bool) -> Measurement:
    """This moment; with ``scored`` what the labelled batch that just ended was worth as well."""
    counts = p.scoreboard.counts
    figures = {**_signals(p), **(_scores(p) if scored else {})}
    return Measurement(time.time(), counts.batches, counts.labelled_batches, scored, figures)


def _signals(p: Parts) -> dict[str, Any]:
    reading = p.drift.signals.reading
    return {
        "state": p.shown.now.value,
        "version": p.lineage.serving.version if p.lineage.serving else None,
        "z": reading.z,
        "conflicts": reading.conflicts,
        "estimate": p.drift.estimate.shown,
        "rows": p.scoreboard.counts.predicted,
        "labels": p.scoreboard.counts.joined,
    }


def _scores(p: Parts) -> dict[str, Any]:
    board, gate = p.scoreboard, p.line.gate
    lift, last = board.advice.lift, board.last
    champion, baseline = last["champion"], last["shadow"]
    challenger = last.get("challenger") or {}
    evidence = gate.evidence() if p.line.trial is not None else {}
    return {
        **{name: champion[name] for name in ("accuracy", "f1", "precision", "recall")},
        "shadow_accuracy": baseline["accuracy"],
        "shadow_f1": baseline["f1"],
        "challenger_accuracy": challenger.get("accuracy"),
        "lift": last["lift"],
        "lift_mean": lift.mean,
        "lift_low": lift.low,
        "lift_high": lift.high,
        "cost": last["cost"]["champion"],
        "shadow_cost": last["cost"]["shadow"],
        "delay_seconds": board.delay,
        "log_e": evidence.get("log_e"),
        "log_e_needed": evidence.get("log_e_needed"),
        "heals": board.counts.heals,
        "promotions": board.counts.promotions,
        "rollbacks": board.counts.rollbacks,
        "action": last["action"],
    }
