"""What a candidate's process says to its keeper: a byte while no call hangs, and why it ends."""

from __future__ import annotations

BEAT = b"."
OUTGREW = b"o"
ABSENT = b"a"
EXITS = {OUTGREW: "outgrew", ABSENT: "absent"}
"""``outgrew``: it took too much memory. ``absent``: this machine does not have its package, which
says nothing against it: the champion answers here."""
