"""What is known of each input: how it moved, whether its meaning did, and what healing gained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import MISSING, OUTSIDE, Codes, Counts
from bento_selfheal.healing.causes.facets import Facets
from bento_selfheal.healing.causes.meaning import Meaning
from bento_selfheal.healing.causes.moves import ALPHA, Moves
from bento_selfheal.healing.causes.report import CauseReport, ColumnCause

MOST_TOLD = 10
"""Inputs of a report."""
SURE = 2.0
"""Standard errors of the gain from which on it is divided among inputs."""


def moved_facets(facets: Facets, found: Moves, tried: int = 1) -> list[int]:
    """Facets of inputs that moved, the farthest first: each of all is tested at an equal share of
    `ALPHA` (Bonferroni), so that any is named without drift with that chance at most.

    Args:
        facets: What is looked at.
        found: How far each moved.
        tried: How many windows of rows the one is chosen from.
    """
    own = [i for i in range(len(facets.owner)) if i not in facets.of_answers]
    limit = ALPHA / max(len(own), 1) / tried
    return sorted((i for i in own if found.chance[i] < limit), key=lambda i: -found.z[i])


def column_causes(
    facets: Facets, counts: Counts, found: Moves, moved: list[int], said: Meaning
) -> list[ColumnCause]:
    """The inputs that tell most: those that moved, then those whose meaning changed, then others,
    each the farthest first.

    Args:
        facets: What is looked at.
        counts: Newest rows in each cell.
        found: How far each moved.
        moved: Facets that moved.
        said: What labels say.
    """
    rows, before = counts[0].sum(), facets.gaps[:, 1] / facets.gaps.sum(axis=1)
    now = counts / max(rows, 1)
    out = []
    for owner, name in enumerate(facets.names):
        own = [i for i in facets.facets_of(owner) if i not in facets.of_answers]
        far = max(own, key=lambda i: found.z[i])
        meanings = said.z[facets.facets_of(owner)]
        out.append(
            ColumnCause(
                name=name,
                of=_what(facets, found, owner, far),
                moved=not set(moved).isdisjoint(own),
                divergence=float(found.divergence[far]),
                expected=float(found.expected[far]),
                z=float(found.z[far]),
                missing=float(now[far, MISSING]),
                missing_before=float(before[far]),
                unseen=float(now[far, list(OUTSIDE)].sum()),
                meaning_z=float(meanings.max()) if said.matched else None,
            )
        )
    changed = [one for i, one in enumerate(out) if said.own[facets.facets_of(i)].any()]
    if said.changed and changed:
        max(changed, key=lambda one: one.meaning_z or 0.0).meaning_changed = True
    out.sort(key=lambda one: (not one.moved, not one.meaning_changed, -one.z))
    return out[:MOST_TOLD]


def add_gains(
    report: CauseReport, facets: Facets, codes: Codes, gains: NDArray[np.float64],
    counts: Counts, said: Meaning,
) -> None:  # fmt: skip
    """Say what of the gain falls to rows whose values in a column became more common, or, of a
    column that did not move, to rows whose classes changed.

    Args:
        report: Takes the gain and the shares.
        facets: What is looked at.
        codes: Cells of labelled rows, ``(n, facets)``.
        gains: Loss of the frozen model less that of what was served, ``(n,)``; NaN where unknown.
        counts: Newest rows in each cell.
        said: What labels say.
    """
    known = ~np.isnan(gains)
    codes, gains = codes[known], gains[known]
    more = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    more = more > facets.counts / facets.counts.sum(axis=1, keepdims=True)
    report.gain = float(gains.mean()) if len(gains) else None
    gained = len(gains) > 1 and gains.mean() > SURE * gains.std() / np.sqrt(len(gains))
    for one in report.columns:
        if not (one.moved or one.meaning_changed) or not len(gains):
            continue
        cells = more if one.moved else said.shifted
        own = facets.facets_of(facets.names.index(one.name))
        inside = np.mean([cells[i][codes[:, i]] for i in own], axis=0) > 0.5
        one.row_share = float(inside.mean())
        one.gain_share = float(gains[inside].sum() / gains.sum()) if gained else None


def _what(facets: Facets, found: Moves, owner: int, far: int) -> str:
    if len(facets.facets_of(owner)) > 1:
        return "input"
    if found.gaps[far]:
        return "missing"
    return "unseen" if found.unseen[far] > 0.5 else "values"
