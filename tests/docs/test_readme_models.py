"""The README's models of one's own: each block is run as it stands, on a table as it may lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from torch import nn
from xgboost import XGBClassifier

from bento_selfheal.packaging.model_store import delete_model
from bento_selfheal.packaging.package import Package

README = (ROOT / "README.md").read_text()
SECTION = README.partition("## Use your own model\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
KINDS = ["table", "network", "trees"]
MOST_LINES = 7
"""Of a block, without blank ones: a reader takes it in at a glance."""


class Net(nn.Module):
    """A network as a reader may have one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 16), nn.ReLU())
        self.fc = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.body(x))
        return out


def trained(rows: np.ndarray, labels: np.ndarray) -> Net:
    torch.manual_seed(0)
    network, x, y = Net(), torch.from_numpy(rows), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


@pytest.fixture
def given() -> dict[str, Any]:
    """What a reader has before he begins: rows and labels, a table, a trained network."""
    draw = np.random.default_rng(0)
    labels = (draw.random(3000) < 0.3).astype(np.int64)
    visits = draw.poisson(np.where(labels, 1, 6))
    columns = [draw.normal(45, 12, 3000), draw.gamma(2, 1500, 3000), visits]
    rows = np.stack(columns, axis=1).astype(np.float32)
    table = pd.DataFrame({
        "age": columns[0], "balance": np.where(draw.random(3000) < 0.1, np.nan, columns[1]),
        "visits": visits, "plan": np.where(visits > 3, "plus", "basic"), "left": labels,
    })  # fmt: skip
    return {
        "rows": rows, "labels": labels, "table": table,
        "network": trained(rows[:1000], labels[:1000]), "XGBClassifier": XGBClassifier,
    }  # fmt: skip


@pytest.fixture
def names(home: Path, given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The block's names; the model that it packages is gone afterwards."""
    names = dict(given)
    yield names
    delete_model(names["package"].tag)


def test_each_kind_has_a_block() -> None:
    """One for a table, one for a network, one for trees, each short."""
    assert [
        next(k for k, word in zip(KINDS, ("table,", "network", "trees"), strict=True) if word in b)
        for b in BLOCKS
    ] == KINDS
    assert all(len([line for line in b.splitlines() if line]) <= MOST_LINES for b in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=KINDS)
def test_a_block_packages_a_model(
    block: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs as it stands, and the model is right more often than its commonest class."""
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - the README's own code
    package: Package = names["package"]
    assert package.info.accuracy > 1 - package.info.positive_rate + 0.1
    assert package.tag in capsys.readouterr().out
