"""What the newest rows say before they have labels: worth much where it moves, nothing lost where
nothing does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.experts.kinds.context import ContextExpert
from bento_selfheal.experts.table import INPUT_EXPERTS
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream
from bento_selfheal.simulation.table import package_table, table_stream

pytestmark = pytest.mark.slow
WIDTH, TRAIN = 6, 600
POINTS = 0.002


def still(seed: int, n: int = 4600) -> Table:
    """A relation that stays, of rows that stay."""
    generator = np.random.default_rng([seed, 1])
    rows = generator.normal(size=(n, WIDTH))
    odds = 2 * rows @ generator.normal(size=WIDTH)
    return _table(rows, generator.random(n) < 1 / (1 + np.exp(-odds)))


def swinging(seed: int, n: int = 5600) -> Table:
    """Two classes that stay where they are; the share of the second one swings after training."""
    generator = np.random.default_rng([seed, 2])
    since = np.maximum(np.arange(n) - TRAIN, 0)
    labels = generator.random(n) < 0.5 + 0.4 * np.sin(since / 2000 * 2 * np.pi)
    centres = generator.normal(size=(2, WIDTH)) * 0.5
    return _table(centres[labels.astype(int)] + generator.normal(size=(n, WIDTH)), labels)


def _table(rows: NDArray[np.float64], labels: NDArray[np.bool_]) -> Table:
    names = [f"x{i}" for i in range(WIDTH)]
    return Table(names, rows.astype(np.float32), labels.astype(np.int64))


def served(table: Table, seed: int, home: Path) -> float:
    """Accuracy of what was served, labels 500 rows late."""
    use_home(home)
    train, rest = table.split(TRAIN / len(table.rows))
    package = package_table("stream", train, seed, None)
    stream = table_stream(rest, package, 500)
    run = Backtest(package, Settings(seed=seed))
    for _ in run.run(Stream(stream.rows, stream.labels, 500, 25)):
        pass
    return float(run.correct("champion").mean())


@pytest.fixture(autouse=True)
def own_homes(home: Path) -> Iterator[None]:
    """Each stream has a model store of its own; other tests find theirs again."""
    yield
    use_home(home)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Takes the experts with a context out of the race, once it is told to."""
    return monkeypatch


def _take_out(patch: pytest.MonkeyPatch) -> None:
    for name in [n for n, make in INPUT_EXPERTS.items() if isinstance(make(2, 2), ContextExpert)]:
        patch.delitem(INPUT_EXPERTS, name)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_lost_where_nothing_moves(
    seed: int, tmp_path: Path, without: pytest.MonkeyPatch
) -> None:
    """Never worse by 0.2 points than a race without them."""
    told = served(still(seed), seed, tmp_path / "told")
    _take_out(without)
    assert told >= served(still(seed), seed, tmp_path / "untold") - POINTS


def test_a_moved_share_is_met_before_its_labels_come(
    tmp_path: Path, without: pytest.MonkeyPatch
) -> None:
    """Where the share of a class swings faster than labels come, a point at least is won."""
    told = served(swinging(0), 0, tmp_path / "told")
    _take_out(without)
    assert told >= served(swinging(0), 0, tmp_path / "untold") + 0.01
