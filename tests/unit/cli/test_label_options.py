"""Options of `backtest` and `replay` that say which labels come."""

from __future__ import annotations

import pytest

from bento_selfheal.cli.labels.pattern import label_pattern, label_settings
from bento_selfheal.config.settings import Settings
from bento_selfheal.errors import SettingsError


def test_settings_by_their_names() -> None:
    """Options set what the settings of their names do, and leave alone what is not given."""
    assert label_settings(None, None, None, None) == {}
    chosen = label_settings("0,30d", None, None, None)
    settings = Settings(**chosen)
    assert settings.unreported is not None
    assert (settings.unreported.label, settings.unreported.days) == (0, 30.0)
    assert label_settings("no, maybe,12h", None, None, None)["unreported"]["class"] == "no, maybe"
    assert Settings(**label_settings(None, "capacity", 0.1, 0.02)).review_explored == 0.02
    assert Settings(**label_settings(None, "queue", None, None, 200)).review_budget == 200
    with pytest.raises(SettingsError, match="'30d' is not CLASS,AGE"):
        label_settings("30d", None, None, None)


def test_which_labels_come() -> None:
    """The class that is unreported by setting never comes; a delay is a number of rows."""
    settings = Settings(**label_settings("0,1h", None, None, None))
    pattern = label_pattern(settings, ["1"], ["1=500"], 60.0)
    assert (pattern.only, pattern.never, pattern.delays) == (("1",), "0", {"1": 500})
    with pytest.raises(SettingsError, match="1=late: 'late' is no number of rows"):
        label_pattern(settings, None, ["1=late"], None)
    with pytest.raises(SettingsError, match="is no number of rows"):
        label_pattern(settings, None, ["1=99999999999999999999"], None)
    with pytest.raises(SettingsError, match="--only: 'maybe' is no class of the model, whose"):
        label_pattern(settings, ["maybe"], None, None).check([0, 1])
    with pytest.raises(SettingsError, match="--delay-of: '7' is no class of the model"):
        label_pattern(settings, None, ["7=3"], None).check([0, 1])
