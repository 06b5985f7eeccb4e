"""Settings: what is set holds, and what is wrong is named before anything runs."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.config.settings import Settings, load_settings
from bento_selfheal.config.thresholds import ThresholdFile, Thresholds
from bento_selfheal.errors import SettingsError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of the developer's own."""
    for name in list(os.environ):
        if name.startswith("SELFHEAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`SELFHEAL_<NAME>` sets a setting, as its own type."""
    monkeypatch.setenv("SELFHEAL_WORKERS", "3")
    monkeypatch.setenv("SELFHEAL_MODE", "observe")
    monkeypatch.setenv("SELFHEAL_HEAL_LR", "0.01")
    monkeypatch.setenv("SELFHEAL_STATE_DIR", "/var/lib/x")
    found = load_settings()
    assert (found.workers, found.mode, found.heal_lr) == (3, "observe", 0.01)
    assert found.state_dir == Path("/var/lib/x")
    assert found.fidi_threshold == Settings.model_fields["fidi_threshold"].default


def test_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`selfheal.toml` here, or the file that SELFHEAL_CONFIG names, sets what no variable does."""
    (tmp_path / "selfheal.toml").write_text('batch_size = 40\nmode = "observe"\n')
    monkeypatch.setenv("SELFHEAL_BATCH_SIZE", "60")
    found = load_settings()
    assert (found.batch_size, found.mode) == (60, "observe")
    (tmp_path / "other.toml").write_text("workers = 5\n")
    monkeypatch.setenv("SELFHEAL_CONFIG", str(tmp_path / "other.toml"))
    found = load_settings()
    assert (found.workers, found.mode) == (5, "heal")


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that no setting has is refused by name: a slip must not pass in silence."""
    monkeypatch.setenv("SELFHEAL_WROKERS", "3")
    with pytest.raises(SettingsError, match="SELFHEAL_WROKERS"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "0"), ("workers", "two"), ("mode", "panic"), ("fidi_threshold", "-1"),
        ("conflict_thr", "1.5"), ("gate_alpha", "0"), ("gate_alpha", "1"), ("snapshots_kept", "3"),
        ("batch_size", "0"), ("seed", "-1"), ("recipe", "magic"), ("heal_lr", "0"),
    ],
)  # fmt: skip
def test_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A value out of range is refused with the setting's name and the value."""
    monkeypatch.setenv(f"SELFHEAL_{name.upper()}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert name in str(refused.value)
    assert value in str(refused.value)


def test_labels_outlive_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that go before their predictions would count twice when they are sent again."""
    monkeypatch.setenv("SELFHEAL_LOG_DAYS", "90")
    monkeypatch.setenv("SELFHEAL_FEEDBACK_DAYS", "60")
    with pytest.raises(SettingsError, match=r"feedback_days: .*log_days.*60"):
        load_settings()


def test_wrong_file(tmp_path: Path) -> None:
    """An unknown name in the file is refused by name."""
    (tmp_path / "selfheal.toml").write_text("wrokers = 2\n")
    with pytest.raises(SettingsError, match="wrokers"):
        load_settings()


def test_broken_file(tmp_path: Path) -> None:
    """A file that is no TOML is refused by name."""
    (tmp_path / "selfheal.toml").write_text("workers = = 2\n")
    with pytest.raises(SettingsError, match=r"selfheal\.toml"):
        load_settings()


def test_missing_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that SELFHEAL_CONFIG names and that is not there is refused by name."""
    monkeypatch.setenv("SELFHEAL_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_settings()


@pytest.mark.parametrize("model", [HealParameters, Settings, Thresholds])
def test_described(model: type[HealParameters]) -> None:
    """Every setting says what it means."""
    assert [n for n, f in model.model_fields.items() if not f.description] == []


def test_every_parameter_of_the_article() -> None:
    """The article's parameters are settings under the article's own names."""
    article = {"heal_steps", "heal_lr", "fidi_threshold", "fidi_window", "conflict_thr",
               "conflict_min", "alpha", "lambda_lag", "health_window"}  # fmt: skip
    assert article <= Settings.model_fields.keys()
    assert {"rollback_f1_drop", "rollback_acc_drop"} <= set(Thresholds.model_fields)


# -- threshold_config.json -------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> ThresholdFile:
    made = ThresholdFile(tmp_path / "new" / "threshold_config.json")
    made.refresh()
    return made


def test_thresholds_are_written(file: ThresholdFile) -> None:
    """A missing file is written with the defaults, for people to edit; an existing one is not."""
    assert json.loads(file.path.read_text()) == Thresholds().model_dump()
    file.path.write_text('{"rollback_f1_drop": 0.5}')
    other = ThresholdFile(file.path)
    assert other.refresh()
    assert other.current == Thresholds(rollback_f1_drop=0.5)


def test_thresholds_pick_up(file: ThresholdFile) -> None:
    """An edit is picked up at the next look, once; an edit without a change is none."""
    file.path.write_text('{"rollback_f1_drop": 0.031, "rollback_acc_drop": 0.2}')
    assert file.refresh() is True
    assert file.current == Thresholds(rollback_f1_drop=0.031, rollback_acc_drop=0.2)
    assert file.refresh() is False
    file.path.write_text('{"rollback_acc_drop": 0.20, "rollback_f1_drop": 0.0310}')
    assert file.refresh() is False


BAD = [
    ('{"rollback_f1_drop": 2}', "rollback_f1_drop"),
    ('{"rollback_f1_drop": -0.1}', "rollback_f1_drop"),
    ('{"rollback_f1_drop": "much"}', "rollback_f1_drop"),
    ('{"rollback_f1_drop": NaN}', ""),
    ('{"rollback_f1": 0.1}', "rollback_f1"),
    ('{"rollback_f1_drop": 0.0', "Invalid JSON"),
    ("", "Invalid JSON"),
    ("[]", ""),
    ("\xff", ""),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_bad_edit(file: ThresholdFile, caplog: pytest.LogCaptureFixture, text: str,
                  said: str) -> None:  # fmt: skip
    """A bad edit, or a half-written file, is refused with one clear log line; the values in
    force stay, and the corrected file is picked up."""
    file.path.write_text('{"rollback_f1_drop": 0.04}')
    file.refresh()
    file.path.write_bytes(text.encode("latin-1"))
    with caplog.at_level(logging.ERROR):
        assert file.refresh() is False
        assert file.refresh() is False
    assert file.current == Thresholds(rollback_f1_drop=0.04)
    [line] = [r.getMessage() for r in caplog.records]
    assert str(file.path) in line
    assert said in line
    assert "0.04" in line
    file.path.write_text('{"rollback_f1_drop": 0.055}')
    assert file.refresh() is True
    assert file.current == Thresholds(rollback_f1_drop=0.055)


def test_lost_file(file: ThresholdFile, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is gone, or in whose place a folder stands, changes nothing."""
    file.path.write_text('{"rollback_f1_drop": 0.04}')
    file.refresh()
    file.path.unlink()
    assert file.refresh() is False
    file.path.mkdir()
    with caplog.at_level(logging.ERROR):
        assert file.refresh() is False
    assert str(file.path) in caplog.text
    assert file.current == Thresholds(rollback_f1_drop=0.04)
