"""Everything that a page, a metric or an operator wants to know of a pipeline, as JSON values."""

from __future__ import annotations

from typing import Any

from bento_selfheal.healing.parts import Parts
from bento_selfheal.scoring.losses import cost_of
from bento_selfheal.scoring.scores import majority_accuracy


def status_of(p: Parts) -> dict[str, Any]:
    """All figures of this moment."""
    return {
        **_standing(p),
        **_worth(p),
        **_healing(p),
        "signals": _signals(p),
        "causes": p.drift.causes.status(),
        "segments": p.segments.status(),
        "one_class": _one_class(p),
        "one_sided": {"alarm": bool(p.one_sided.reason), "reason": p.one_sided.reason},
        "agreement": _agreement(p),
        "labels": _labels(p),
        "trials": p.candidates.status(),
        "new_classes": p.batches.new_classes.status(),
        "unreported": p.batches.maturity.status(),
        "review": _review(p),
        "newest": p.scoreboard.newest.status(),
        "cursors": {
            "predictions": p.cursors.predictions,
            "feedback": p.cursors.feedback,
            "commands": p.cursors.commands,
        },
        "thresholds": p.controls.thresholds.model_dump(),
    }


def _standing(p: Parts) -> dict[str, Any]:
    """Where the service stands."""
    serving, set_aside = p.lineage.serving, p.batches.set_aside
    return {
        "state": p.shown.now.value,
        "mode": "observe" if p.controls.observing else "heal",
        "paused": p.controls.paused,
        "model": p.package.tag,
        "classes": p.package.info.classes,
        "serving": serving
        and {"version": serving.version, "phase": serving.phase.value, "tag": serving.tag},
        "canary": p.canary.status(),
        "operating_point": p.policy.point.as_dict(),
        "rows_set_aside": set_aside.counts.total,
        "rows_trouble": set_aside.trouble,
    }


def _worth(p: Parts) -> dict[str, Any]:
    """What was answered, and what it was worth."""
    counts, costs = p.scoreboard.counts, p.controls.thresholds
    lift = p.scoreboard.advice.lift
    return {
        "predicted_rows": counts.predicted,
        "batches": counts.batches,
        "labelled_batches": counts.labelled_batches,
        "last": p.scoreboard.last or None,
        "champion": counts.champion.as_dict(),
        "shadow": counts.baseline.as_dict(),
        "challenger": counts.challenger.as_dict(),
        "majority": majority_accuracy(counts.classes) if counts.classes else None,
        "lift": {"mean": lift.mean, "low": lift.low, "high": lift.high},
        "cost": {
            "champion": cost_of(counts.champion, costs),
            "shadow": cost_of(counts.baseline, costs),
        },
        "log_loss_gain": counts.log_loss_gain / max(counts.champion.rows, 1),
        "estimate": p.drift.estimate.as_dict(),
    }


def _healing(p: Parts) -> dict[str, Any]:
    """What was learned from whom, and what was done about it."""
    counts, trial = p.scoreboard.counts, p.line.trial
    return {
        "trial": trial and {"version": trial.version, **p.line.gate.evidence()},
        "sources": p.batches.sources.status(),
        "rules": p.scoreboard.rules.status(),
        "change": p.drift.changed or None,
        "retrain": p.scoreboard.advice.retrain or None,
        "heals": counts.heals,
        "promotions": counts.promotions,
        "rollbacks": counts.rollbacks,
        "losses": p.line.losses,
    }


def _signals(p: Parts) -> dict[str, Any]:
    signals = p.drift.signals
    return {
        "z": signals.reading.z,
        "feature": signals.reading.feature,
        "conflicts": signals.reading.conflicts,
        "distance": signals.reading.distance,
        "differing": list(signals.reading.differing),
        "drifting": signals.seen,
        "error": signals.fallen,
        "fidi_threshold": p.settings.tuning.fidi_threshold,
        "conflict_min": p.settings.tuning.conflict_min,
        "distance_limit": signals.distances.limit if signals.distances.compared else None,
    }


def _one_class(p: Parts) -> dict[str, Any]:
    one = p.drift.one_class
    return {"alarm": bool(one.alarm), "rows": one.rows, "reason": one.alarm}


def _agreement(p: Parts) -> dict[str, Any]:
    agreement = p.drift.signals.agreement
    return {"now": agreement.now, "usual": agreement.usual, "z": agreement.z}


def _labels(p: Parts) -> dict[str, Any]:
    counts, joiner = p.scoreboard.counts, p.batches.joiner
    return {
        "joined": counts.joined,
        "corrected": counts.corrected,
        "waiting": joiner.waiting,
        "unmatched": joiner.unmatched,
        "retracted": counts.retracted,
        "new_class": sum(p.batches.new_classes.counts.values()),
        "refused": counts.refused,
        "delay_seconds": p.scoreboard.delay,
    }


def _review(p: Parts) -> dict[str, Any]:
    """Which rows are looked at, and for which of them the figures speak."""
    s, rows = p.settings, p.scoreboard.review
    shown = {"rule": s.review, "budget": s.review_budget}
    if s.review == "all":
        known = "every row's label is asked for"
    elif s.review == "queue":
        asked = p.batches.selection.status()
        known = f"figures speak for all rows: {asked['share']:.2%} of them are asked for"
        return {**shown, **asked, "known": known}
    elif s.review_explored:
        known = f"figures speak for all rows: {s.review_explored:.1%} of the others are asked for"
    else:
        known = (
            "figures speak only for rows that are looked at: of the others nothing is known, and "
            "nothing is promoted; set review_explored"
        )
    return {**shown, "explored": s.review_explored, "rows": rows, "known": known}
