"""Begins a candidate: a package that has to earn its place beside the one that serves."""

from __future__ import annotations

from bento_selfheal.core.candidates.candidate import Candidate, check_ramp
from bento_selfheal.deployment.likeness import check_alike
from bento_selfheal.errors import CommandError, PackageError
from bento_selfheal.packaging.opening import info_of
from bento_selfheal.store import SqlStore


def begin_candidate(
    store: SqlStore, tag: str, ramp: tuple[float, ...], min_labels: int, by: str
) -> Candidate:
    """Begin a candidate, in shadow of what serves.

    Args:
        store: The service's store.
        tag: Tag of a package in this machine's model store.
        ramp: Percent of the requests that it answers, step by step, up to 100.
        min_labels: Labelled rows that each step takes at least.
        by: Who asks for it.

    Raises:
        CommandError: There is no such package here, it has other features, types or classes than
            the one that serves, it serves or is a candidate already, or the ramp is none.
    """
    if why := check_ramp(ramp):
        raise CommandError(why)
    serving = store.meta("package") or ""
    try:
        exact, info = info_of(tag)
        if exact == serving:
            raise CommandError(f"tag: {exact} serves already")
        check_alike(serving, info_of(serving)[1], exact, info)
    except PackageError as error:
        raise CommandError(f"tag: {error}") from error
    return store.add_candidate(Candidate(exact, ramp, min_labels, by=by))
