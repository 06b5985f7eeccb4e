"""Thresholds that people change: in their file, or with `POST /thresholds`, which writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from bento_selfheal.config.thresholds import ThresholdFile
from bento_selfheal.core.audit.entry import FILE, OPERATE
from bento_selfheal.core.records import Command
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.store import SqlStore

KIND = "thresholds"
TOLERANCE = 1e-3
"""Seconds by which a file system may round the time of a change."""


def follow_file(pipeline: Pipeline, thresholds: ThresholdFile) -> bool:
    """Put an edit of the file in force; whether there was one."""
    thresholds.edited = thresholds.refresh()
    if not thresholds.edited:
        return False
    put_in_force(pipeline, thresholds, thresholds.owner, FILE)
    return True


def put_in_force(pipeline: Pipeline, thresholds: ThresholdFile, by: str, role: str) -> None:
    """Use what the file says, with an event that says who changed it and what it was before."""
    before = pipeline.parts.controls.thresholds.model_dump()
    pipeline.parts.controls.thresholds = thresholds.current
    note(pipeline, before, by, role)


def note(pipeline: Pipeline, before: dict[str, Any], by: str, role: str) -> None:
    """Note which thresholds are in force now."""
    values = pipeline.parts.controls.thresholds.model_dump()
    pipeline.journal.note(KIND, {**values, "before": before, "by": by, "role": role})


def carry_out(pipeline: Pipeline, thresholds: ThresholdFile, command: Command) -> None:
    """Write what an operator asked for into the file and use it; an event says so, or why not."""
    if command.seq <= thresholds.taken_up:
        return
    why = _edited_since(thresholds, command) or _write(thresholds, command)
    if not why:
        put_in_force(pipeline, thresholds, command.by, OPERATE)
        return
    pipeline.journal.note("thresholds_refused", {"reason": why, "by": command.by})


def catch_up(store: SqlStore, thresholds: ThresholdFile) -> tuple[str, str]:
    """Write what operators asked for since the file was changed, as the runner of another machine
    may have done there; who changed it last, and in which role."""
    by, commands = (thresholds.owner, FILE), store.commands_of(KIND)
    thresholds.found_with = max((command.seq for command in commands), default=0)
    for command in commands:
        if abs(command.time - thresholds.changed_at) <= TOLERANCE:  # the file has it, and no edit
            by, thresholds.taken_up = (command.by, OPERATE), command.seq
    known = thresholds.taken_up if by[1] == OPERATE else 0
    for command in commands:
        # Behind one that the file has, their order tells which is newer, though a clock was set.
        newer = command.seq > known if known else command.time > thresholds.changed_at + TOLERANCE
        if newer and not _write(thresholds, command):
            by, thresholds.taken_up = (command.by, OPERATE), command.seq
    return by


def _edited_since(thresholds: ThresholdFile, command: Command) -> str:
    """Why an edit of the file outweighs a command; nothing where it does not.

    An edit that an earlier step has found came before the command, whatever the times say: the
    clock may have been set back. Of what is found together the times alone tell the order.
    """
    together = thresholds.edited or command.seq <= thresholds.found_with
    if not together or thresholds.changed_at <= command.time + TOLERANCE:
        return ""
    edited, asked = (
        datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
        for time in (thresholds.changed_at, command.time)
    )
    return (
        f"{thresholds.path} was edited after they were asked for, by its time, {edited}, and that "
        f"of the request, {asked}; where the edit is the older one, ask again"
    )


def _write(thresholds: ThresholdFile, command: Command) -> str:
    """Write the values of a command; why they could not be, or nothing."""
    try:
        thresholds.change(json.loads(command.argument or "{}"), command.time)
    except OSError as error:
        return f"{thresholds.path} cannot be written: {error.strerror}"
    except ValidationError as error:  # of another release
        return f"{command.argument} does not fit: {error.error_count()} errors"
    return ""
