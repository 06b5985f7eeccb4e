"""Where a deployment keeps its state."""

from __future__ import annotations

from pathlib import Path

import pytest

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.locations import open_store


@pytest.mark.parametrize(
    "name", ["plain", "what?", "50%", "50%20", "a#b", "with space", "é", "a&b=c"]
)
def test_any_folder_holds_the_store(tmp_path: Path, name: str) -> None:
    """Whatever characters the state folder's name has, the database lies in it, not elsewhere."""
    store = open_store(Settings(state_dir=tmp_path / name))
    store.create()
    store.close()
    assert (tmp_path / name / "selfheal.db").is_file()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]
