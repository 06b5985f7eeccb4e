"""Events, figures over time, and the commands that operators give."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, func, insert, select

from bento_selfheal.core.records import Command, Event, Measurement
from bento_selfheal.errors import CommandError
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.audit.audit import append_audit
from bento_selfheal.store.connections import Part


class Events(Part):
    """Events, measurements and commands."""

    def events(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Event]:
        """One page of events, oldest first; see `Part.page` for which one."""
        return [codec.event(r) for r in self.page(t.events, t.events.c.seq, after, before, limit)]

    def measurements(
        self, since: float = 0.0, after: int = 0, *, scored_only: bool = False, limit: int = 100_000
    ) -> list[Measurement]:
        """Figures over time, oldest first; where there are more than ``limit``, every n-th.

        Args:
            since: Seconds since the epoch.
            after: Only figures after this place.
            scored_only: Leave out figures of the signals alone.
            limit: Most figures to return.
        """
        m = t.measurements.c
        wanted = [m.time >= since, m.seq > after, *([m.scored] if scored_only else [])]
        numbered = select(t.measurements, func.row_number().over(order_by=m.seq.desc()).label("n"))
        with self._db.read() as c:
            count = c.execute(select(func.count()).where(*wanted)).scalar_one()
            step = max(math.ceil(count / limit), 1)
            every = numbered.where(*wanted).subquery()
            # Numbered from the newest, so that the newest is always among them.
            query = select(*(every.c[k.name] for k in m)).where((every.c.n - 1) % step == 0)
            return [codec.measurement(r) for r in c.execute(query.order_by(every.c.seq))]

    def add_event(self, happened: Event) -> None:
        """Write an event that belongs to no step of the runner."""
        with self._db.write() as c:
            c.execute(insert(t.events), [codec.event_row(happened)])

    def add_command(
        self,
        kind: str,
        argument: str | None = None,
        *,
        by: str = "operator",
        audited: Mapping[str, Any] | None = None,
    ) -> int:
        """Ask the runner for something, in somebody's name; with an entry in the audit.

        Args:
            kind: What for.
            argument: What about, at most 200 characters.
            by: Who asks.
            audited: What the audit keeps of it; by default the argument.

        Returns:
            The place of the command.

        Raises:
            CommandError: The argument holds a character that the store cannot keep.
        """
        try:
            codec.check_text("argument", argument)
        except ValueError as error:
            raise CommandError(str(error)) from error
        with self._db.write() as c:
            result = c.execute(
                insert(t.commands).values(kind=kind, argument=argument, time=time.time(), by=by)
            )
            detail = {} if argument is None else {"argument": argument}
            append_audit(c, kind, by, detail if audited is None else audited)
            return int(result.inserted_primary_key[0])  # type: ignore[index]

    def commands(self, after: int) -> list[Command]:
        """Commands after a place, oldest first."""
        return self._commands(t.commands.c.seq > after)

    def commands_of(self, kind: str) -> list[Command]:
        """Every command of a kind, oldest first."""
        return self._commands(t.commands.c.kind == kind)

    def _commands(self, wanted: ColumnElement[bool]) -> list[Command]:
        query = select(t.commands).where(wanted).order_by(t.commands.c.seq)
        with self._db.read() as c:
            return [Command(r.kind, r.time, r.seq, r.argument, r.by) for r in c.execute(query)]
