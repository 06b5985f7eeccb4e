"""Thresholds that people change: by hand or through the service, and who did is in the audit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import Deployed, died

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.packaging.package import Package

DEFAULTS = Thresholds().model_dump()


@pytest.fixture
def service(package: Package, tmp_path: Path) -> Iterator[Deployed]:
    service = Deployed(Settings(model=package.tag, state_dir=tmp_path / "state", lease_seconds=60))
    yield service
    service.close()


def file_of(service: Deployed) -> Path:
    return service.settings.state_dir / "threshold_config.json"


def ask(service: Deployed, by: str = "anna", **changes: Any) -> None:
    service.store.add_command("thresholds", json.dumps(changes), by=by, audited=changes)


def in_force(service: Deployed) -> dict[str, Any]:
    """Those that differ from the defaults."""
    found = service.store.status()["thresholds"]
    return {name: value for name, value in found.items() if value != DEFAULTS[name]}


def changed(service: Deployed) -> list[tuple[str, str, dict[str, Any]]]:
    """Who changed the thresholds, in which role, and what of them."""
    found = []
    for entry in service.store.audit():
        if entry.act == "thresholds_changed":
            detail = json.loads(entry.detail)
            moved = {k: detail[k] for k in DEFAULTS if detail[k] != detail["before"][k]}
            found.append((entry.by, entry.role, moved))
    assert service.store.verify_audit().broken == 0
    return found


def test_by_the_service(service: Deployed) -> None:
    """What an operator asks for is written to the file, in force, and recorded under the name of
    the token; what was left out stays, and a capacity may be taken away again."""
    runner = service.runner()
    runner.step()
    ask(service, miss_cost=5.0, capacity=20)
    ask(service, "berta", alarm_cost=2.0)
    runner.step()
    assert in_force(service) == {"miss_cost": 5.0, "capacity": 20, "alarm_cost": 2.0}
    assert json.loads(file_of(service).read_text()) == service.store.status()["thresholds"]
    ask(service, capacity=None)
    runner.step()
    assert in_force(service) == {"miss_cost": 5.0, "alarm_cost": 2.0}
    assert changed(service) == [
        ("anna", "operate", {"miss_cost": 5.0, "capacity": 20}),
        ("berta", "operate", {"alarm_cost": 2.0}),
        ("anna", "operate", {"capacity": None}),
    ]
    runner.step()
    assert len(changed(service)) == 3


def test_by_hand(service: Deployed) -> None:
    """An edit of the file is recorded under the name of the user whose file it is, whether a
    runner saw it happen or not, and stands against what was asked for before."""
    runner = service.runner()
    runner.step()
    file_of(service).write_text('{"miss_cost": 3.0}')
    runner.step()
    owner = file_of(service).owner()
    assert changed(service) == [(owner, "file", {"miss_cost": 3.0})]
    ask(service, miss_cost=9.0)
    file_of(service).write_text('{"miss_cost": 4.0}')
    later = time.time() + 60
    os.utime(file_of(service), (later, later))
    runner.step()
    assert in_force(service) == {"miss_cost": 4.0}
    [refused] = [e.detail for e in service.store.events() if e.kind == "thresholds_refused"]
    assert refused["by"] == "anna"
    assert "edited after they were asked for" in refused["reason"]
    died(runner)
    file_of(service).write_text('{"miss_cost": 2.0}')
    os.utime(file_of(service), (later + 60, later + 60))
    service.runner().step()
    assert in_force(service) == {"miss_cost": 2.0}
    assert changed(service)[1:] == [
        (owner, "file", {"miss_cost": 4.0}), (owner, "file", {"miss_cost": 2.0}),
    ]  # fmt: skip


def test_on_another_machine(service: Deployed, tmp_path: Path) -> None:
    """A runner on another machine, whose file is older, takes up what was asked for; no file
    brings an older value back."""
    runner = service.runner()
    runner.step()
    ask(service, miss_cost=5.0)
    runner.step()
    died(runner)
    os.utime(file_of(service), (1, 1))
    file_of(service).write_text(json.dumps(DEFAULTS))
    os.utime(file_of(service), (1, 1))
    service.runner().step()
    assert in_force(service) == {"miss_cost": 5.0}
    assert len(changed(service)) == 1


def test_on_a_new_machine(service: Deployed) -> None:
    """A runner that finds no file, as on a new machine or at the first start, takes up what was
    asked for, and what is asked for before it leads: the file that it makes is nobody's edit."""
    runner = service.runner()
    runner.step()
    ask(service, miss_cost=5.0)
    runner.step()
    died(runner)
    file_of(service).unlink()
    ask(service, "berta", alarm_cost=2.0)
    ask(service, "carl", capacity=30)
    service.runner().step()
    assert in_force(service) == {"miss_cost": 5.0, "alarm_cost": 2.0, "capacity": 30}
    assert [e.kind for e in service.store.events() if "thresholds" in e.kind] == ["thresholds"] * 2
    assert changed(service)[1:] == [("carl", "operate", {"alarm_cost": 2.0, "capacity": 30})]


def test_a_link_stays_a_link(service: Deployed, tmp_path: Path) -> None:
    """What is asked for is written to the file that a link leads to, such as one under version
    control."""
    runner = service.runner()
    file = tmp_path / "kept.json"
    file_of(service).rename(file)
    file_of(service).symlink_to(file)
    runner.step()
    ask(service, miss_cost=5.0)
    runner.step()
    assert (file_of(service).is_symlink(), json.loads(file.read_text())["miss_cost"]) == (True, 5.0)
    assert in_force(service) == {"miss_cost": 5.0}


def test_a_runner_that_dies_in_between(service: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked is recorded, once, where the runner died after it wrote the file."""
    runner = service.runner()
    runner.step()
    ask(service, miss_cost=5.0)
    monkeypatch.setattr(runner, "_write", lambda pipeline: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.step()
    died(runner)
    service.runner().step()
    assert in_force(service) == {"miss_cost": 5.0}
    assert changed(service) == [("anna", "operate", {"miss_cost": 5.0})]


def test_a_file_that_cannot_be_written(service: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is read-only, as one from a ConfigMap, the values stay and an event says
    why."""
    runner = service.runner()
    runner.step()
    file_of(service).with_suffix(".part").mkdir()  # root may write anything else
    ask(service, miss_cost=5.0)
    runner.step()
    assert in_force(service) == {}
    [refused] = [e.detail for e in service.store.events() if e.kind == "thresholds_refused"]
    assert "cannot be written" in refused["reason"]
    assert changed(service) == []


def test_a_clock_that_was_set_back(service: Deployed) -> None:
    """What is asked for while the file's time lies ahead of the clock is newer than what the runner
    has found in it, and is put in force; the next runner brings no older value back."""
    runner = service.runner()
    runner.step()
    ask(service, miss_cost=3.0)
    runner.step()
    file_of(service).write_text('{"miss_cost": 4.0}')
    ahead = time.time() + 3600
    os.utime(file_of(service), (ahead, ahead))
    runner.step()
    ask(service, "berta", miss_cost=9.0)
    runner.step()
    assert in_force(service) == {"miss_cost": 9.0}
    assert "thresholds_refused" not in [e.kind for e in service.store.events()]
    died(runner)
    service.runner().step()
    assert in_force(service) == {"miss_cost": 9.0}
    assert changed(service)[-1] == ("berta", "operate", {"miss_cost": 9.0})


def test_a_clock_that_was_set_back_while_nobody_led(
    service: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the requests counts, and not what the clock said of each."""
    runner = service.runner()
    runner.step()
    now = time.time()
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: now + 3600)
        ask(service, miss_cost=3.0)
        ask(service, miss_cost=4.0)
    runner.step()
    died(runner)
    ask(service, "berta", miss_cost=9.0)
    service.runner().step()
    assert in_force(service) == {"miss_cost": 9.0}
    assert changed(service)[-1] == ("berta", "operate", {"miss_cost": 9.0})
