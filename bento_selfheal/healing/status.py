"""Everything that a page, a metric or an operator wants to know of a pipeline, as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bento_selfheal.scoring.losses import cost_of
from bento_selfheal.scoring.scores import batch_interval

if TYPE_CHECKING:
    from bento_selfheal.healing.pipeline import Pipeline


def status_of(p: Pipeline) -> dict[str, Any]:
    """All figures of this moment."""
    lift, scoreboard, agreement = batch_interval(p.limit.lifts), p.scoreboard, p.drift.agreement
    return {
        "state": p.state.value,
        "mode": "observe" if p.observing else "heal",
        "paused": p.paused,
        "model": p.package.tag,
        "serving": _serving(p),
        "signals": _signals(p),
        "predicted_rows": scoreboard.predicted,
        "batches": scoreboard.batches,
        "labelled_batches": scoreboard.labelled_batches,
        "labels": _labels(p),
        "rows_set_aside": p.set_aside.counts.total,
        "trouble": p.set_aside.trouble or None,
        "last": p.last or None,
        "champion": scoreboard.champion.as_dict(),
        "shadow": scoreboard.shadow.as_dict(),
        "lift": {"mean": lift.mean, "low": lift.low, "high": lift.high},
        "trial": None if p.trial is None else {"version": p.trial.version, **p.gate.evidence()},
        "operating_point": p.operating.as_dict(),
        "cost": {
            "champion": cost_of(scoreboard.champion, p.thresholds),
            "shadow": cost_of(scoreboard.shadow, p.thresholds),
        },
        "log_loss_gain": scoreboard.log_loss_gain / max(scoreboard.champion.rows, 1),
        "challenger": scoreboard.challenger.as_dict(),
        "estimate": p.estimate.as_dict(),
        "sources": p.sources.status(),
        "rules": p.rule_record.status(),
        "agreement": {"now": agreement.now, "usual": agreement.usual, "z": agreement.z},
        "change": p.changed or None,
        "retrain": p.limit.retrain or None,
        "heals": scoreboard.heals,
        "promotions": scoreboard.promotions,
        "rollbacks": scoreboard.rollbacks,
        "losses": p.losses,
        "cursors": {"predictions": p.predictions_from, "feedback": p.feedback_from},
        "thresholds": p.thresholds.model_dump(),
    }


def _serving(p: Pipeline) -> dict[str, Any] | None:
    if p.serving is None:
        return None
    return {
        "version": p.serving.version,
        "phase": p.serving.phase.value,
        "tag": p.serving.tag,
    }


def _signals(p: Pipeline) -> dict[str, Any]:
    reading = p.drift.reading
    return {
        "z": reading.z,
        "feature": reading.feature,
        "conflicts": reading.conflicts,
        "drifting": p.drift.seen,
        "error": p.drift.fallen,
        "fidi_threshold": p.settings.fidi_threshold,
        "conflict_min": p.settings.conflict_min,
    }


def _labels(p: Pipeline) -> dict[str, Any]:
    return {
        "joined": p.scoreboard.joined,
        "corrected": p.scoreboard.corrected,
        "waiting": p.joiner.waiting,
        "unmatched": p.joiner.unmatched,
        "refused": p.scoreboard.refused,
        "delay_seconds": p.delay,
    }
