"""`bento-selfheal deploy`: the service's own store gets the model, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import mixed
import numpy as np
import pytest
from networks import packaged_stripes
from packages import other_package

from bento_selfheal.cli import main as entry
from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.candidates import begin_candidate
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_existing, open_store
from bento_selfheal.errors import CommandError
from bento_selfheal.inputs.column import Kind
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training


@pytest.fixture
def serving(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a service that the environment names."""
    monkeypatch.setenv("SELFHEAL_MODEL", package.tag)
    monkeypatch.setenv("SELFHEAL_STORE_URL", f"sqlite:///{tmp_path / 'service.db'}")
    settings = Settings()
    prepare(settings)
    return settings


def deploy(tag: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "deploy", tag])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return ended.value.code


def package_of(settings: Settings) -> str | None:
    store = open_store(settings)
    try:
        return store.meta("package")
    finally:
        store.close()


def test_the_service_gets_it(
    serving: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of whatever name takes over in the store that the service's settings name."""
    other = other_package("retrained")
    assert deploy(other.tag, monkeypatch) == 0
    assert package_of(serving) == other.tag
    assert "takes over" in capsys.readouterr().out
    assert deploy(other.tag, monkeypatch) == 0
    assert "serves already" in capsys.readouterr().out


def test_default_folder(package: Package, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Without a store's URL it is the folder of the service's model, not of the tag."""
    monkeypatch.setenv("SELFHEAL_MODEL", package.tag)
    prepare(Settings())
    other = other_package("by-folder")
    assert deploy(other.tag, monkeypatch) == 0
    assert package_of(Settings()) == other.tag
    assert not (home / "selfheal" / "by-folder").exists()


@pytest.mark.parametrize("tag", ["nonsense:1", "no such model", "a:b:c"])
def test_no_such_model(
    tag: str,
    serving: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A tag that names no model is one line."""
    assert deploy(tag, monkeypatch) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"error: {tag}: there is no such model")
    assert package_of(serving) == serving.model


def test_another_kind_of_model(
    serving: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other features are refused, and what serves goes on."""
    rows = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(np.int64)
    other = package_model("of-two", rows, labels, features=["a", "b"], training=Training(epochs=1))
    assert deploy(other.tag, monkeypatch) == 1
    assert f"{other.tag} has the features" in " ".join(capsys.readouterr().err.split())
    assert package_of(serving) == serving.model


def test_other_columns(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model retrained on newer rows, with other levels or an other first date, is refused with
    what differs in which column, and with what to do instead; the columns that serve are taken."""
    first = mixed.packaged("flights", 200)
    monkeypatch.setenv("SELFHEAL_MODEL", first.tag)
    monkeypatch.setenv("SELFHEAL_STORE_URL", f"sqlite:///{tmp_path / 'flights.db'}")
    prepare(Settings())
    changes = {
        "sky": {"levels": ("clear", "rain", "hail", *"abcdefg")}, "day": {"origin": 20_400.5},
        "engines": {"nullable": True}, "at night": {"kind": Kind.NUMBER},
    }  # fmt: skip
    columns = [c.model_copy(update=changes.get(c.name, {})) for c in mixed.COLUMNS]
    rows, labels = mixed.flights(200)
    given = {"features": mixed.NAMES, "training": Training(epochs=1)}
    other = package_model("newer", mixed.codes(rows), labels, columns=columns, **given)
    assert deploy(other.tag, monkeypatch) == 1
    said = " ".join(capsys.readouterr().err.split())
    for words in (
        f"{other.tag} has other columns than {first.tag}, which serves: 'engines' may be missing",
        "'sky' has the new levels 'hail', 'a', 'b', 'c', 'd' and 3 more; lacks the levels 'fog'",
        "'day' is counted from 20,400.5, not from 20,000",
        "'at night' is number, not boolean",
        f"columns=open_package('{first.tag}').info.columns in Python",
        f"SELFHEAL_MODEL={other.tag} SELFHEAL_STATE_DIR=FOLDER bentoml serve",
    ):
        assert words in said
    again = package_model("newer", mixed.codes(rows), labels, columns=first.info.columns, **given)
    assert deploy(again.tag, monkeypatch) == 0


def test_no_store(
    package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A store that is not there is not made, and the line says how to name the right one."""
    monkeypatch.setenv("SELFHEAL_MODEL", package.tag)
    monkeypatch.setenv("SELFHEAL_STATE_DIR", str(tmp_path / "elsewhere"))
    assert deploy(package.tag, monkeypatch) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "no store of a service" in said
    assert "SELFHEAL_MODEL" in said
    assert not (tmp_path / "elsewhere").exists()


def test_another_network(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Newer rows of the same network take over; one with other weights does not, in a few words."""
    monkeypatch.setenv("SELFHEAL_MODEL", packaged_stripes("stripes").tag)
    monkeypatch.setenv("SELFHEAL_STORE_URL", f"sqlite:///{tmp_path / 'network.db'}")
    prepare(Settings())
    assert deploy(packaged_stripes("newer", seed=3).tag, monkeypatch) == 0
    capsys.readouterr()
    assert deploy(packaged_stripes("another", of=5).tag, monkeypatch) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "which serves, by its weights_sha256. " in said
    assert "Embedding" not in said
    store = open_existing(Settings())
    with pytest.raises(CommandError, match=r"embeds inputs otherwise.*Restart the service with"):
        begin_candidate(store, "another:latest", (0.0, 100.0), 200, "anna")
    store.close()
