"""Which package the settings ask for, and whether it is to take over at a start."""

from __future__ import annotations

import logging

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.candidates.candidate import CandidateState
from bento_selfheal.deployment.locations import exact_tag, is_newest
from bento_selfheal.errors import PackageError
from bento_selfheal.packaging.opening import info_of
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)

ASKED_FOR = "asked_for"
"""Fact: the exact tag that the settings asked for at the last start."""


def to_serve(settings: Settings, store: SqlStore) -> str:
    """The exact tag of the package that is to serve from a start on.

    It is that of the settings, if they ask for another one than at the last start. Otherwise what
    was deployed since, or promoted as a candidate, goes on. A candidate that has not earned its
    place does not take over for being the newest version of its name.

    Raises:
        bentoml.exceptions.NotFound: There is no such model.
    """
    tag, serving = exact_tag(settings), store.meta("package")
    if serving is None or serving == tag or not _is_here(serving, tag):
        return tag
    if store.meta(ASKED_FOR) == tag:
        log.info("%s serves, deployed since the settings asked for %s", serving, tag)
        return serving
    if is_newest(settings) and (state := _unproven(store, tag)):
        log.warning(
            "%s is the newest version, and a candidate (%s): %s goes on serving; to serve it all "
            "the same, run bento-selfheal deploy %s", tag, state, serving, tag,
        )  # fmt: skip
        return serving
    return tag


def note_asked_for(settings: Settings, store: SqlStore) -> None:
    """Note what the settings ask for, once it was taken into account."""
    tag = exact_tag(settings)
    if not (is_newest(settings) and _unproven(store, tag)):
        store.set_meta(ASKED_FOR, tag)


def _is_here(serving: str, tag: str) -> bool:
    try:
        info_of(serving)
    except PackageError as error:
        log.warning("%s cannot serve here any more, %s takes over: %s", serving, tag, error)
        return False
    return True


def _unproven(store: SqlStore, tag: str) -> str:
    """Where a package stands that is or was a candidate and was not promoted; else empty."""
    states = [c.state for c in store.candidates() if c.tag == tag]
    return states[-1].value if states and states[-1] is not CandidateState.PROMOTED else ""
