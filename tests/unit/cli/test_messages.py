"""What commands say to people: in words, and with a way out."""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from rich.console import Console
from test_status import CALM
from typer.core import TyperGroup
from typer.main import get_command

import bento_selfheal
from bento_selfheal.cli import main as entry
from bento_selfheal.cli.app import app
from bento_selfheal.cli.output import print_status
from bento_selfheal.cli.simulate import _changed
from bento_selfheal.client import Client
from bento_selfheal.config.settings import Settings
from bento_selfheal.core.importing import import_function
from bento_selfheal.core.log.told import TELLS, told
from bento_selfheal.errors import SettingsError
from bento_selfheal.simulation.server import free_port
from bento_selfheal.wire.messages import CommandAnswer

PACKAGE = Path(bento_selfheal.__file__).parent


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["bento-selfheal", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return ended.value.code


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("heal_row=50", "--try: there is no setting heal_row; did you mean heal_rows?"),
        ("nonsense", "--try: 'nonsense' is not NAME=VALUE"),
        ("heal_lr=much", "--try: "),
    ],
)
def test_try(text: str, said: str) -> None:
    """A setting that is not there is named, with the one that it may stand for."""
    with pytest.raises(SettingsError) as refused:
        _changed(Settings(), text)
    assert str(refused.value).startswith(said)
    assert _changed(Settings(), "heal_rows=50").tuning.heal_rows == 50


def test_nothing_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no service runs, the line names the address and the option that changes it."""
    monkeypatch.setattr("bento_selfheal.cli.operate.RETRY_SECONDS", 0.1)
    url = f"http://127.0.0.1:{free_port()}"
    assert command(monkeypatch, "status", "--url", url) == 1
    said = capsys.readouterr().err
    assert f"nothing answers at {url}" in said
    assert "--url" in said


def test_pause_says_what_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator's own commands still work while the service is paused."""
    monkeypatch.setattr(Client, "pause", lambda _: CommandAnswer(command="pause", seq=3))
    assert command(monkeypatch, "pause") == 0
    assert "your own heal, rollback and forget still work" in capsys.readouterr().out


@pytest.mark.parametrize(("source", "known"), [("desk", True), ("dsek", False)])
def test_forget(
    source: str,
    known: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A source that nobody has heard of is kept for later, and the answer says so."""
    monkeypatch.setattr(Client, "status", lambda _: {"sources": {"desk": {}}})
    monkeypatch.setattr(Client, "forget", lambda *_: CommandAnswer(command="forget", seq=3))
    assert command(monkeypatch, "forget", source) == 0
    assert ("no label is known yet" in capsys.readouterr().out) is not known


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        ("rollback", {"version": 1, "from": 5, "reason": "no"}, "rolled back from 5 to 1: no"),
        ("rollback", {"version": 1, "from": 5, "reason": "anna did", "by": "operator"}, "anna did"),
        ("pause", {"by": "anna"}, "healing paused, by anna"),
        ("dropped", {"rows": 1, "reason": "full"}, "1 prediction not logged: full"),
        ("heal", {"heal": 2, "version": 7, "reason": "z", "losses": {"a": 1.0}},
         "heal 2 trained snapshot 7: z"),
        ("thresholds", {"miss_cost": 2.0}, "thresholds changed: miss_cost 2"),
        ("thresholds", {"miss_cost": 2.0, "capacity": None, "by": "anna", "role": "operate",
                        "before": {"miss_cost": 1.0, "capacity": None}},
         "thresholds changed: miss_cost 1 → 2, by anna"),
        ("webhook_gave_up", {"hook": "desk", "event": 7, "kind": "heal", "attempts": 1,
                             "reason": "HTTP 500"},
         "webhook desk was never told of event 7 (heal), in 1 attempt: HTTP 500"),
        ("webhook_lost", {"hook": "desk", "events": 2001, "kinds": {"heal": 2000, "promote": 1}},
         "webhook desk was never told of 2,001 events, which retention removed while it was away: "
         "2,000 heal, 1 promote"),
        ("heal", {"of": "another release"}, "of another release"),
    ],
)  # fmt: skip
def test_events_in_words(kind: str, detail: dict[str, Any], words: str) -> None:
    """An event is told as the page tells it; one that is not known shows its detail."""
    assert told({"kind": kind, "detail": detail}) == words


@pytest.mark.parametrize(("classes", "shown"), [(["no", "yes"], True), (["a", "b", "c"], False)])
def test_f1_is_of_two_classes(
    classes: list[str],
    shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Snapshots of more classes are listed without it."""
    monkeypatch.setattr(Client, "status", lambda _: {"classes": classes})
    monkeypatch.setattr(Client, "snapshots", lambda _: [])
    assert command(monkeypatch, "snapshots") == 0
    assert ("F1" in capsys.readouterr().out) is shown


def test_a_package_of_many_classes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is packaged says how the classes fare: of three, F1 of one says nothing."""
    draw = np.random.default_rng(0)
    colours = draw.integers(3, size=300)
    rows = [f"{x + draw.normal(0, 0.3):.3f},{'abc'[x]}" for x in colours]
    (tmp_path / "colours.csv").write_text("\n".join(["x,colour", *rows]))
    given = ["package", str(tmp_path / "colours.csv"), "--label", "colour", "--name", "colours"]
    assert command(monkeypatch, *given) == 0
    said = capsys.readouterr().out
    assert re.search(r"mean recall 0\.\d+ and lowest [\d.]+ \(class [abc]\)", said)
    assert "F1" not in said


def test_a_builder_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find a model's builder where they are called, as `bentoml serve` does."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "builder_here.py").write_text("def build(): return 7")
    assert command(monkeypatch, "--version") == 0
    assert import_function("builder_here:build")() == 7


def test_status_without_figures() -> None:
    """Where no feature is watched and no label has come, words say so."""
    signals = {**CALM["signals"], "feature": None, "conflicts": 1}
    labels = {"joined": 0, "delay_seconds": None, "unmatched": 0}
    out = io.StringIO()
    status = {**CALM, "signals": signals, "labels": labels, "rollbacks": 1}
    print_status(status, Console(file=out, width=200))
    said = out.getvalue()
    assert "no feature is watched yet, 1 conflict of 5" in said
    assert "not known: no batch of labels is complete yet" in said
    assert "none yet; 1 row predicted, 0 waiting, 0 unmatched" in said
    assert "0 promotions, 1 rollback " in said
    assert " - " not in said


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` is that of the installed package."""
    assert command(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == version("bento-selfheal")


WITHOUT_JSON = {"init", "demo", "replay", "package-demo", "deploy", "sign"}


def commands_of(group: TyperGroup) -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of groups too."""
    for name, found in group.commands.items():
        if isinstance(found, TyperGroup):
            yield from ((f"{name} {own}", command) for own, command in commands_of(found))
        else:
            yield name, found


def test_json_of_every_command() -> None:
    """Every command has `--json`, but for those that docs/operations.md names."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    options = {name: {o for p in c.params for o in p.opts} for name, c in commands_of(group)}
    assert {name for name, has in options.items() if "--json" not in has} == WITHOUT_JSON
    page = (ROOT / "docs" / "operations.md").read_text()
    assert all(f"`{name}`" in page.partition("## ")[0] for name in WITHOUT_JSON)


def test_every_option_has_a_help() -> None:
    """No option is left to be guessed, and the recipes are all named."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    unsaid = [
        f"{name} {p.opts[0]}"
        for name, c in commands_of(group)
        for p in c.params
        if not getattr(p, "help", None) and p.name != "help"
    ]
    assert unsaid == []
    [recipe] = [p for p in group.commands["replay"].params if p.name == "recipe"]
    assert all(name in getattr(recipe, "help", "") for name in ("replay", "race", "article"))


def noted_kinds() -> set[str]:
    """Kinds of events that the code writes down by name."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                values = [node.args[0]] if called in ("note", "_tell", "Event") else []
            elif isinstance(node, ast.Assign) and "kind" in ast.unparse(node.targets[0]).split(
                ", "
            ):
                named = "healing" in path.parts
                values = [node.value] if named else []
            else:
                continue
            found |= {
                one.value
                for value in values
                for one in ast.walk(value.elts[0] if isinstance(value, ast.Tuple) else value)
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            }
    return found


def test_every_kind_has_words() -> None:
    """Whatever kind of event the code writes down, there are words for it here and on the page; so
    a webhook may name it, and no slip in a name goes unseen."""
    kinds = noted_kinds()
    assert {"promote", "retrain_needed", "would_roll_back", "segment_released", "erased"} <= kinds
    assert kinds - TELLS.keys() == set()
    page = (PACKAGE / "dashboard" / "told.js").read_text()
    assert [kind for kind in TELLS if not re.search(rf"\b{kind}: \(", page)] == []
