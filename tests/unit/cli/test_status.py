"""`bento-selfheal status`: what keeps the service from healing is shown, and fails a check."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bento_selfheal.cli import main as entry
from bento_selfheal.client import Client

CALM: dict[str, Any] = {
    "state": "HEALTHY", "model": "m:1", "paused": False, "mode": "heal", "runner_alive": True,
    "signals": {"z": 0.0, "fidi_threshold": 1.0, "feature": "a", "conflicts": 0, "conflict_min": 5},
    "labels": {"joined": 1, "delay_seconds": 1.0, "unmatched": 0}, "predicted_rows": 1,
    "lift": {"mean": 0.0, "low": 0.0, "high": 0.0}, "serving": {"version": 1}, "heals": 0,
    "promotions": 0, "rollbacks": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, 0),
        ({"trouble": "The healing step has failed 5 times in a row"}, 1),
        ({"retrain": "accuracy stays low"}, 1),
        ({"runner_alive": False}, 1),
        ({"behind": {"seconds": 61.0, "reason": "no core", "advice": "another core"}}, 1),
        ({"behind": None}, 0),
        ({"one_class": {"alarm": True, "rows": 200, "reason": "all of the last 200 rows"}}, 1),
        ({"one_class": {"alarm": False, "rows": 3, "reason": ""}}, 0),
    ],
)
def test_check(
    more: dict[str, Any],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`status --check` ends with 1 when the runner is dead or in trouble, a retrain is due or
    every row is given the same class, and prints the reason."""
    monkeypatch.setattr(Client, "status", lambda _: {**CALM, **more})
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "status", "--check"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == code
    printed = capsys.readouterr().out
    shown = more.get("one_class") or more.get("behind") or more
    for reason in shown.values():
        assert not isinstance(reason, str) or reason in printed


def test_feeds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` shows how far each feed of labels is, or why it fails."""
    counts = {"rows": 1200, "accepted": 1100, "rejected": 3, "in_conflict": 1}
    feeds = [
        {"name": "desk", **counts, "failing": ""},
        {"name": "night", **counts, "failing": "feed night: no such folder"},
    ]
    monkeypatch.setattr(Client, "status", lambda _: {**CALM, "feeds": feeds})
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "status"])
    with pytest.raises(SystemExit):
        entry.main()
    printed = capsys.readouterr().out
    assert "1,200 rows, 1,100 accepted, 4 not kept" in printed
    assert "feed night  no such folder" in printed


def test_canary(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` says which snapshot answers a share first, and how many labels it waits for."""
    canary = {"version": 9, "share": 0.1, "since": 1.0, "labels": 40, "labels_needed": 100}
    monkeypatch.setattr(Client, "status", lambda _: {**CALM, "canary": canary})
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "status"])
    with pytest.raises(SystemExit):
        entry.main()
    printed = " ".join(capsys.readouterr().out.split())
    assert "snapshot 9 answers 10% first since 1970-01-01" in printed
    assert "40 of 100 labels" in printed


def test_rebuilding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """After an erasure `status` says that what was learned is built anew, until it is."""
    monkeypatch.setattr(Client, "status", lambda _: {**CALM, "rebuilding": True})
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "status", "--check"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0
    assert "builds what was learned anew" in capsys.readouterr().out


def test_webhooks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` shows what each webhook delivered, and why it fails."""
    counts = {"delivered": 1200, "waiting": 3, "given_up": 0}
    hooks = [
        {"name": "team", **counts, "failing": ""},
        {"name": "night", **counts, "given_up": 1, "failing": "HTTP 500"},
    ]
    monkeypatch.setattr(Client, "status", lambda _: {**CALM, "webhooks": hooks})
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "status"])
    with pytest.raises(SystemExit):
        entry.main()
    printed = capsys.readouterr().out
    assert re.search(r"team +1,200 delivered, 3 waiting *\n", printed)
    assert "fails: HTTP 500; 1,200 delivered, 3 waiting, 1 given up" in printed
