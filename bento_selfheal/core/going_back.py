"""What a rollback without a version goes back to."""

from __future__ import annotations

from collections.abc import Iterable

from bento_selfheal.core.records import Phase, PromotionKind, Snapshot

Turn = tuple[PromotionKind, int]
"""What changed the serving snapshot, and the version that served from then on."""


def previous_snapshot(turns: Iterable[Turn], kept: Iterable[Snapshot]) -> Snapshot | None:
    """The newest kept snapshot that served before the one that serves now; else the clean one.

    Args:
        turns: The promotion log, oldest first; its oldest part may be missing.
        kept: The snapshots that may serve.

    Returns:
        None where the clean snapshot serves, or nothing does.
    """
    path, known = _path(turns), {s.version: s for s in kept}
    if not path:
        return None
    serving = known.get(path[-1])
    if serving is not None and serving.phase is Phase.CLEAN:
        return None
    clean = next((s for s in known.values() if s.phase is Phase.CLEAN), None)
    return next((known[v] for v in reversed(path[:-1]) if v in known), clean)


def _path(turns: Iterable[Turn]) -> list[int]:
    """The versions that led to the one that serves; a rollback leaves out what it undid, and a
    refresh what it refreshed. A canary is the last one until something else is promoted.

    >>> first, canary, promote, back, refresh = PromotionKind
    >>> _path([(first, 1), (promote, 5), (promote, 8), (back, 5), (promote, 10), (refresh, 12)])
    [1, 5, 12]
    >>> _path([(first, 1), (canary, 5), (canary, 5), (promote, 5), (canary, 8)])
    [1, 5, 8]
    >>> _path([(first, 1), (promote, 5), (canary, 8), (refresh, 9)])
    [1, 9]
    """
    path: list[int] = []
    canary: list[int] = []
    for kind, version in turns:
        if kind is PromotionKind.CANARY:
            canary = [version]
            continue
        canary = []
        if kind is PromotionKind.INITIAL:
            path = []  # nothing of another package can serve
        elif kind is PromotionKind.REFRESH:
            del path[-1:]
        elif version in path:
            del path[path.index(version) :]
        path.append(version)
    return path + canary
