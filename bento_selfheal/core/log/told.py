"""Events in words, as the page tells them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bento_selfheal.core.text import counted

Detail = Mapping[str, Any]


def _rolled_back(d: Detail) -> str:
    if d.get("by", "runner") != "runner":
        return str(d["reason"])  # an operator's reason names both versions
    since = f" from {d['from']}" if d.get("from") else ""
    return f"rolled back{since} to {d['version']}: {d['reason']}"


def _refused(d: Detail) -> str:
    what = f"snapshot {d['version']}" if d.get("version") else f"heal {d['heal']}"
    return f"refused {what}: {d['reason']}"


def _retrain_needed(d: Detail) -> str:
    if d.get("export_error"):
        return f"a retraining is due: {d['reason']}; no rows exported: {d['export_error']}"
    where = f" to {d['export']}" if d.get("export") else ""
    return f"a retraining is due: {d['reason']}; {counted(d['rows'], 'row')} exported{where}"


def _thresholds(d: Detail) -> str:
    before = d.get("before", {})
    changes = [
        f"{name} {_value(before[name])} → {_value(value)}" if name in before
        else f"{name} {_value(value)}"
        for name, value in d.items()
        if name not in ("by", "role", "before") and before.get(name, ...) != value
    ]  # fmt: skip
    return f"thresholds changed: {', '.join(changes)}"


TELLS: Mapping[str, Callable[[Detail], str]] = {
    "heal": lambda d: f"heal {d['heal']} trained snapshot {d['version']}: {d['reason']}",
    "promote": lambda d: f"promoted snapshot {d['version']}: {d['reason']}",
    "canary": lambda d: (
        f"snapshot {d['version']} answers {d['share']:.0%} of the requests, and snapshot "
        f"{d['from']} the others: {d['reason']}"
    ),
    "canary_ended": lambda d: (
        f"snapshot {d['version']} answers no share of the requests any more: {d['reason']}"
    ),
    "rollback": _rolled_back,
    "drifting": lambda d: "; ".join(
        filter(None, (f"drifting: {d['reason']}", d.get("causes", {}).get("sentence")))
    ),
    "drift_explained": lambda d: f"{d['kind']}: {d['sentence']}",
    "change": lambda d: f"change seen by {', '.join(d['detectors'])}",
    "undecided": lambda d: (
        f"snapshot {d['version']}'s trial ended undecided after {counted(d['rows'], 'label')}"
    ),
    "promotion_withheld": lambda d: f"snapshot {d['version']} is not promoted: {d['reason']}",
    "segment_held_back": lambda d: f"left out of healing: {d['reason']}",
    "segment_released": lambda d: f"healed again: {d['reason']}",
    "segment_rolled_back": lambda d: (
        f"snapshot {d['version']} serves instead of {d['from']}: {d['reason']}"
    ),
    "quarantine": lambda d: (
        f"source {d['source']} quarantined, {counted(d['rows'], 'row')} forgotten: {d['reason']}"
    ),
    "release": lambda d: (
        f"source {d['source']} released"
        if d["quarantined"]
        else f"source {d['source']} was not quarantined: nothing to release"
    ),
    "new_class": lambda d: (
        f"labels of the class {d['class']}, which was not trained on: {d['share']:.1%} of the "
        "newest are of such classes"
    ),
    "refused": _refused,
    "operating_point": lambda d: (
        f"decision threshold {d['threshold']:.3f} ({d['kind']}): {d['reason']}"
    ),
    "would_promote": lambda d: f"would have promoted snapshot {d['version']}: {d['reason']}",
    "would_roll_back": lambda d: f"would have rolled back from {d['version']}: {d['reason']}",
    "rollback_withheld": lambda d: f"no rollback: {d['reason']}",
    "begun_anew": lambda d: f"what was learned is lost, and begins anew: {d['reason']}",
    "rows_set_aside": lambda d: str(d["reason"]),
    "prediction_set_aside": lambda d: f"a logged prediction was set aside: {d['error']}",
    "row_set_aside": lambda d: (
        f"a labelled row was set aside, the model cannot answer it: {d.get('error') or d['reason']}"
    ),
    "step_failing": lambda d: str(d["reason"]),
    "step_recovered": lambda d: "the healing step works again",
    "feed_failing": lambda d: str(d["reason"]),
    "webhook_failing": lambda d: f"webhook {d['hook']} fails: {d['reason']}",
    "webhook_recovered": lambda d: f"webhook {d['hook']} works again",
    "webhook_gave_up": lambda d: (
        f"webhook {d['hook']} was never told of event {d['event']} ({d['kind']}), in "
        f"{counted(d['attempts'], 'attempt')}: {d['reason']}"
    ),
    "webhook_lost": lambda d: (
        f"webhook {d['hook']} was never told of {counted(d['events'], 'event')}, which retention "
        f"removed while it was away: {', '.join(f'{n:,} {kind}' for kind, n in d['kinds'].items())}"
    ),
    "thresholds": _thresholds,
    "thresholds_refused": lambda d: f"thresholds stay as they were: {d['reason']}",
    "test": lambda d: str(d["reason"]),
    "erased": lambda d: "a row was erased",
    "rebuilt": lambda d: (
        f"what was learned was built anew without erased rows, in {d['seconds']:.1f} s"
    ),
    "feed_recovered": lambda d: f"feed {d['feed']} works again",
    "feed_rejected": lambda d: (
        f"feed {d['feed']}: {counted(d['rows'], 'row')} not kept; they are in {d['folder']}"
    ),
    "dropped": lambda d: f"{counted(d['rows'], 'prediction')} not logged: {d['reason']}",
    "inputs_dropped": lambda d: f"{counted(d['rows'], 'input')} not kept: {d['reason']}",
    "one_class": lambda d: str(d["reason"]),
    "one_sided": lambda d: str(d["reason"]),
    "unreported_lost": lambda d: f"{counted(d['requests'], 'request')} lost: {d['reason']}",
    "retrain_needed": _retrain_needed,
    "deployed": lambda d: f"{d['package']} was deployed as snapshot {d['version']}",
    "candidate_begun": lambda d: f"{d['package']} is a candidate: it answers copies of live rows",
    "candidate_step": lambda d: (
        f"the candidate {d['package']} answers {d['share']:.0%} of the requests: {d['reason']}"
    ),
    "candidate_won": lambda d: f"the candidate {d['package']} has won: {d['reason']}",
    "candidate_promoted": lambda d: f"the candidate {d['package']} serves: {d['reason']}",
    "candidate_withdrawn": lambda d: f"the candidate {d['package']} was withdrawn: {d['reason']}",
    "heal_asked": lambda d: "a heal was asked for",
    "heal_skipped": lambda d: f"no heal: {d['reason']}",
    "pause": lambda d: "healing paused",
    "resume": lambda d: "healing resumed",
    "observe": lambda d: "observing: nothing is promoted",
}


def told(event: Mapping[str, Any]) -> str:
    """What happened, in words, and who asked for it; an event of another kind shows its detail."""
    detail = event["detail"]
    try:
        words = TELLS[event["kind"]](detail)
    except (KeyError, TypeError, ValueError):  # of another release, or of no known kind
        return ", ".join(f"{name} {_value(value)}" for name, value in detail.items())
    by = detail.get("by", "runner")
    return words if by in ("runner", "operator") else f"{words}, by {by}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
