"""Which snapshot is the best, of two classes and of more."""

from __future__ import annotations

import numpy as np
import pytest
from rigs import Rig

from bento_selfheal.core.records import NewSnapshot, Phase
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.training import Training
from bento_selfheal.scoring.scores import Scores

POSITIVE = Scores(tp=60, tn=0, fp=40, fn=0)
"""All rows are called positive: a high F1, and 60 % right."""
RIGHT = Scores(tp=5, tn=70, fp=0, fn=25)
"""75 % right, and few of the positive ones found."""


@pytest.mark.parametrize(("classes", "best"), [(2, 2), (3, 3)])
def test_best(classes: int, best: int, home: object) -> None:
    """Of two classes F1 decides; of more, where F1 says nothing, accuracy."""
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    labels = np.arange(200) % classes
    package = package_model("best", rows, labels, features=["a", "b"], training=Training(epochs=1))
    rig = Rig(package)
    history = rig.pipeline.parts.history
    for version, scores in {2: POSITIVE, 3: RIGHT}.items():
        new = NewSnapshot(version, Phase.POST, heal=1, batch=version, reason="healed")
        history.snapshots[version] = rig.memory.save(new, package.model.adapter_state())
        history.measure(version, scores)
    found = history.best()
    assert found is not None
    assert found.version == best
