"""What people ask of the runner: thresholds, promotions and rollbacks, commands."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import takewhile

from bento_selfheal.config.thresholds import ThresholdFile
from bento_selfheal.core.records import Command, Promotion, PromotionKind
from bento_selfheal.core.transitions import forward
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.runner.thresholds.following import KIND, carry_out, follow_file
from bento_selfheal.store import SqlStore


def follow_operators(pipeline: Pipeline, store: SqlStore, thresholds: ThresholdFile) -> bool:
    """Put in force what operators asked for since the last step; whether they asked for anything.

    Raises:
        StoreError: The store is out of reach.
    """
    changed = follow_file(pipeline, thresholds)
    changed |= _follow_promotions(pipeline, store)
    return follow_commands(pipeline, store, thresholds=thresholds) or changed


def follow_commands(
    pipeline: Pipeline,
    store: SqlStore,
    upto: float = math.inf,
    *,
    heal: bool = True,
    until: float = math.inf,
    thresholds: ThresholdFile | None = None,
) -> bool:
    """Carry out the commands that the pipeline has not seen; whether there were any.

    Args:
        pipeline: What carries them out.
        store: Where they are.
        upto: Only those up to this place.
        heal: Whether to heal where a command asks for it.
        until: Only those that were given up to this time, in seconds since the epoch.
        thresholds: Where new thresholds go; None where those of the file are in force already.
    """
    given = store.commands(pipeline.parts.cursors.commands)
    commands = list(takewhile(lambda c: c.seq <= upto and c.time <= until, given))
    for command in commands:
        pipeline.parts.cursors.commands = forward(
            "commands", pipeline.parts.cursors.commands, command.seq
        )
        if command.kind == KIND:
            if thresholds is not None:
                carry_out(pipeline, thresholds, command)
        elif heal or command.kind != "heal":
            _carry_out(pipeline, command)
    return bool(commands)


def _follow_promotions(pipeline: Pipeline, store: SqlStore) -> bool:
    state, p = store.serving_state(), pipeline.parts
    newest, canary = state.promotion, p.canary.version
    if newest is None:
        return False
    known = state.place == p.cursors.promotions
    if known and p.lineage.serving is not None and canary == state.canary_version:
        return False
    if not known:
        forward("promotions", p.cursors.promotions, state.place)
    changed = newest.version != p.lineage.serving_version or (canary and newest.seq == state.place)
    p.cursors.promotions = state.place
    if canary == newest.version and newest.kind is PromotionKind.PROMOTE:
        pipeline.rollout.finish(newest)
    elif changed and not _adopt(pipeline, store, newest, state.place):
        return True  # what it fell back to is newer than any canary
    if state.canary is not None and p.canary.version != state.canary.version:
        pipeline.rollout.adopt(state.canary)
    return True


def _adopt(pipeline: Pipeline, store: SqlStore, newest: Promotion, place: int) -> bool:
    """Serve what an operator promoted, or what else verifies; whether it was the former."""
    try:
        pipeline.adopt(replace(newest, seq=place))
    except SnapshotError:
        pipeline.fall_back(store.servable(), place)
        return False
    return True


def _carry_out(pipeline: Pipeline, command: Command) -> None:
    if command.kind == "heal":
        pipeline.heal_now(command.by)
    elif command.kind == "forget":
        pipeline.forget(command.argument or "", "asked for by an operator", command.by)
    elif command.kind == "release":
        pipeline.judge.release(command.argument or "", command.by)
    else:
        pipeline.apply_command(command.kind, command.by)
