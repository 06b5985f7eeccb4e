"""Harm in one segment: is it found, how often is nothing found wrongly, and what lift is kept?

    make bench-proof

Gate and segment guard of the service judge a challenger, label by label. There are 50 segments of
2 % of the rows each. The challenger gains 6 points everywhere (9 % of the rows are decided right
that were wrong, 3 % the other way round) but, in runs with harm, for one segment, where it loses 5
(3 % and 8 %). What the guard leaves out is answered as before, as `SegmentWatch` does it. The lift
kept is that of all rows served in a run, over that of the same run without a guard.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.evidence.gate import Gate
from bento_selfheal.healing.segments.harm import SegmentGuard

RUNS, LABELS, BATCH, SEGMENTS, HARMED = 200, 100_000, 500, 50, 7
SEEDS_WITH_HARM, SEEDS_WITHOUT = range(40_000, 40_000 + RUNS), range(50_000, 50_000 + RUNS)
ALPHA = 0.05
GAIN, LOSS = (0.09, 0.03), (0.03, 0.08)
"""Chances that the challenger decides right what was wrong, and wrong what was right."""


def one_run(seed: int, *, harm: bool) -> dict[str, Any]:
    """One stream of labels, judged before and after the promotion."""
    generator = np.random.default_rng(seed)
    segments = generator.integers(0, SEGMENTS, LABELS)
    gains = drawn(generator, segments == HARMED if harm else np.zeros(LABELS, dtype=bool))
    gate, guard = Gate(ALPHA, 3000, 25), SegmentGuard(SEGMENTS, ALPHA)
    members = np.eye(SEGMENTS, dtype=bool)[segments]
    serves, served_left, kept, alone = False, np.zeros(SEGMENTS, dtype=bool), 0.0, 0.0
    out: dict[str, Any] = {"found": None, "false": 0, "before": False}
    for at in range(0, LABELS, BATCH):
        own, segment = gains[at : at + BATCH], segments[at : at + BATCH]
        answered = np.where(served_left[segment], 0.0, own)
        if serves:
            kept, alone = kept + answered.sum(), alone + own.sum()
        left = np.asarray(guard.left)
        tried = np.where(left[segment], 0.0, own)
        changed = guard.try_challenger(members[at : at + BATCH], -own, np.ones(len(own)))
        if serves:
            changed += guard.watch_served(members[at : at + BATCH], -answered, np.ones(len(own)))
        for place in changed:
            guard.begin_test(place)
            if harm and place == HARMED:
                out["found"] = out["found"] or int((segments[: at + BATCH] == HARMED).sum())
                out["before"] = out["before"] or not serves
            else:
                out["false"] += 1
        if gate.update(tried).promote:
            gate.restart()
            serves = True
        served_left = np.asarray(guard.left)
    return {**out, "kept": kept / alone if alone else 1.0, "left": guard.left[HARMED]}


def drawn(generator: np.random.Generator, harmed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Whether the challenger is right less whether the champion is, of each row."""
    draws = generator.random(len(harmed))
    better = np.where(harmed, LOSS[0], GAIN[0])
    worse = np.where(harmed, LOSS[1], GAIN[1])
    return (draws < better).astype(float) - (draws > 1 - worse)


def segment_harm() -> dict[str, Any]:
    """The figures of all runs."""
    with_harm = [one_run(seed, harm=True) for seed in SEEDS_WITH_HARM]
    without = [one_run(seed, harm=False) for seed in SEEDS_WITHOUT]
    found = [run["found"] for run in with_harm if run["found"]]
    return {
        "runs": RUNS,
        "labels": LABELS,
        "blocked": len(found) / RUNS,
        "left_out_at_the_end": float(np.mean([run["left"] for run in with_harm])),
        "labels_in_segment_median": float(np.median(found)) if found else None,
        "labels_in_segment_90th": float(np.quantile(found, 0.9)) if found else None,
        "false_blocks_with_harm": float(np.mean([run["false"] > 0 for run in with_harm])),
        "false_blocks": float(np.mean([run["false"] > 0 for run in without])),
        "lift_kept": float(np.mean([run["kept"] for run in with_harm])),
        "lift_kept_without_harm": float(np.mean([run["kept"] for run in without])),
    }


ROWS: dict[str, Callable[[], dict[str, Any]]] = {"segment harm": segment_harm}


if __name__ == "__main__":
    print(json.dumps({name: row() for name, row in ROWS.items()}, indent=2))
