"""Exit statuses of a candidate's process that say more than that it ended."""

from __future__ import annotations

OUTGREW = 75
ABSENT = 76
EXITS = {OUTGREW: "outgrew", ABSENT: "absent"}
"""``outgrew``: it took too much memory. ``absent``: this machine does not have its package, which
says nothing against it: the champion answers here."""
