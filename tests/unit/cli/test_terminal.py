"""The operator's terminal: text from a store or a server is shown, never obeyed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from bento_selfheal.cli import main as entry
from bento_selfheal.cli import output
from bento_selfheal.client.client import Client
from bento_selfheal.core.records import Event
from bento_selfheal.errors import StoreError
from bento_selfheal.reports.doctor import Finding, Grade
from bento_selfheal.reports.html import render_report
from bento_selfheal.reports.report_data import ReportData

HOSTILE = {
    "[/red]": "[/red]",
    "[link=http://evil.example]click[/link]": "[link=http://evil.example]click[/link]",
    "x\x1b[2J\x1b]0;owned\x07": r"x\x1b[2J\x1b]0;owned\x07",
    "a\nb\rc": r"a\nb\rc",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\ud800": r"\ud800",
    ":bomb: \x9b31m": r":bomb: \x9b31m",
}
STYLE = re.compile(r"\x1b\[[\d;]*m")
"""What rich itself writes: colours and weights."""


def status_of(name: str) -> dict[str, Any]:
    figures = {"accuracy": 0.9}
    return {
        "state": name, "model": name, "paused": False, "mode": name, "retrain": name,
        "signals": {"z": 0.0, "fidi_threshold": 3.0, "feature": name, "conflicts": 0,
                    "conflict_min": 3},
        "labels": {"joined": 1, "delay_seconds": 1.0, "unmatched": 0}, "predicted_rows": 1,
        "lift": {"mean": 0.0, "low": 0.0, "high": 0.0}, "serving": {"version": 1}, "heals": 0,
        "promotions": 0, "rollbacks": 0, "last": {"champion": figures, "shadow": figures},
    }  # fmt: skip


def snapshot_of(name: str) -> dict[str, Any]:
    return {"version": 1, "phase": name, "rows": 1, "accuracy": None, "f1": None, "time": 0.0,
            "serving": True, "previous": False, "share": 0.9}  # fmt: skip


def rule_of(name: str) -> dict[str, Any]:
    return {
        "condition": f"{name} < 1",
        "class": name,
        "precision": 1,
        "coverage": 1,
        "recall": 1,
        "f1": 1,
    }


PRINTED: dict[str, Callable[[str, Console], None]] = {
    "events": lambda name, console: output.print_events(
        [{"time": 0.0, "batch": 1, "kind": name, "detail": {name: name, "nested": [name]}}], console
    ),
    "promotions": lambda name, console: output.print_promotions(
        [{"time": 0.0, "kind": name, "version": 1, "by": name, "reason": name}], console
    ),
    "snapshots": lambda name, console: output.print_snapshots([snapshot_of(name)], console),
    "status": lambda name, console: output.print_status(status_of(name), console),
    "findings": lambda name, console: output.print_findings(
        [Finding(name, Grade.BAD, name, name)], console
    ),
    "suggestions": lambda name, console: output.print_suggestion(
        {
            "notes": [name],
            "left_out": {name: name},
            "sensitive": [name],
            "strength": {name: 1.0},
            "rules": [rule_of(name)],
        },
        console,
    ),
}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("printed", PRINTED)
def test_hostile_names_are_shown(printed: str, name: str) -> None:
    """No name ends a command, makes a link or sends the terminal an escape sequence; what is not
    printable is shown as an escape."""
    out = io.StringIO()
    PRINTED[printed](name, Console(file=out, force_terminal=True, width=400))
    plain = STYLE.sub("", out.getvalue())
    assert HOSTILE[name] in plain
    assert [c for c in plain if not c.isprintable() and c != "\n"] == []
    out.getvalue().encode()


def test_a_command_shows_a_hostile_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bento-selfheal events` ends well whatever sources are named."""
    detail = dict.fromkeys(("source", "reason"), "[/red]\x1b[2J")
    event = Event("quarantine", detail, 0.0, batch=1, seq=1)
    monkeypatch.setattr(Client, "events", lambda *_, before=None, **__: [] if before else [event])
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "events"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"[/red]\x1b[2J" in "".join(part.strip(" │\n") for part in printed.split("│"))


def test_an_error_shows_hostile_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error's text is shown likewise; its own lines stay lines."""

    def failing(*_: Any, **__: Any) -> Any:
        raise StoreError("[/red]\x1b[2J\nsecond line")

    monkeypatch.setattr(Client, "events", failing)
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "events"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: [/red]\\x1b[2J\nsecond line\n"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_in_a_report(name: str) -> None:
    """A report holds them as visible text, never as HTML, and can be written as UTF-8."""
    event = {"time": 0.0, "kind": "quarantine", "batch": 1, "detail": {"source": name}}
    data = ReportData("p:1", [], [], [event], [], [], {}, {}, {"fidi_threshold": 3.0})
    html = render_report(data)
    assert f"source {HOSTILE[name]}" in html
    assert [c for c in html if not c.isprintable() and c not in "\n"] == []
    html.encode()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["suggest", "a" * 300, "--label", "y"], 1), (["status", "--url", "http://["], 2)],
)
def test_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    code: int,
) -> None:  # fmt: skip
    """A file name that no system takes, and an address that is none, are one line."""
    monkeypatch.setattr("sys.argv", ["bento-selfheal", *arguments])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith("error: ")
