"""Rows that the model cannot answer are set aside and named; healing goes on with the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rigs import BATCH, Live, Rig, drifting
from torch import Tensor, nn

from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.healing.labels.set_aside import MANY_ROWS
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import predict_probabilities

BAD = 99.0


class Picky(nn.Module):
    """A backbone that raises on a code that it does not know, on no rows, and changes its input."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.broken = self.resizes = False
        self.error = "index out of range in self"

    def forward(self, x: Tensor) -> Tensor:
        if self.broken or not len(x):
            raise RuntimeError("cannot reshape tensor of 0 elements")
        if self.resizes and bool((x[:, 0] >= BAD).any()):
            return self.inner(x.clone()[:1])
        if bool((x[:, 0] >= BAD).any()):
            raise IndexError(self.error)
        out: Tensor = self.inner(x.clone())
        x.clamp_(-0.1, 0.1)
        return out


@pytest.fixture
def picky(package: Package) -> Package:
    """The demo's package behind such a backbone."""
    model = package.model
    backbone = Picky(model.backbone)
    whole = SelfHealingModel(backbone, model.reflexive, model.head, model.output)
    return replace(package, model=whole.requires_grad_(False).eval())


def teach(rig: Rig, rows: NDArray[np.float32], labels: NDArray[np.generic], first: int = 1) -> None:
    """Labels that come with their features."""
    for i, (row, label) in enumerate(zip(rows, labels, strict=True), start=first):
        key = i.to_bytes(12, "big")
        rig.take((FeedbackRecord(key, 0, int(label), 1.0, "lab", features=row, seq=i), None))


def with_bad(rows: NDArray[np.float32], places: list[int]) -> NDArray[np.float32]:
    out = rows.copy()
    out[places, 0] = BAD
    return out


def test_one_bad_row(picky: Package) -> None:
    """One row on which the model raises is named in an event with its error, all others are
    learned from, and the model heals."""
    rig = Rig(picky, recipe="replay")
    rows, labels = drifting()
    teach(rig, with_bad(rows, [70]), labels)
    event = next(e for e in rig.done.events if e.kind == "row_set_aside")
    assert event.detail == {
        "request": (71).to_bytes(12, "big").hex(), "row": 0, "label_seq": 71, "source": "lab",
        "error": "IndexError: index out of range in self",
    }  # fmt: skip
    status = rig.status()
    assert (status["rows_set_aside"], status["rows_trouble"]) == (1, "")
    assert status["champion"]["tp"] + status["champion"]["tn"] > 0
    assert sum(status["champion"][k] for k in ("tp", "tn", "fp", "fn")) == len(rows) - BATCH
    assert status["promotions"] >= 1


def test_a_row_that_spoils_others(picky: Package) -> None:
    """A row with which the model loses the answers to the others, though it answers that row
    alone, is set aside, and the others are learned from."""
    rig = Rig(picky, recipe="replay")
    rows, labels = drifting(clean=2 * BATCH, drifted=0)
    picky.model.backbone.resizes = True  # type: ignore[assignment]
    teach(rig, with_bad(rows, [7]), labels)
    [event] = [e for e in rig.done.events if e.kind == "row_set_aside"]
    assert event.detail["label_seq"] == 8
    assert "for 2 rows" in event.detail["error"]
    assert rig.status()["labelled_batches"] == 1


def test_an_endless_error(picky: Package) -> None:
    """A model's message is cut in the event and in the trouble, and can be stored and sent."""
    rig = Rig(picky)
    rows, labels = drifting(clean=BATCH, drifted=0)
    picky.model.backbone.error = "\ud800\0" + "z" * 100_000  # type: ignore[assignment]
    teach(rig, with_bad(rows, list(range(MANY_ROWS))), labels)
    told = [e.detail["error"] for e in rig.done.events if e.kind == "row_set_aside"]
    for text in (told[0], rig.status()["rows_trouble"]):
        assert len(text) < 1000
        assert "\0" not in text
        assert "\\ud800\\x00zzz" in text.encode().decode()


def test_a_row_of_another_model(picky: Package) -> None:
    """A row of another width, or a label of a class that is not there, is set aside alike."""
    rig = Rig(picky, recipe="replay")
    rows, labels = drifting(clean=BATCH, drifted=0)
    teach(rig, np.zeros((1, 3), np.float32), np.asarray([0]))
    teach(rig, rows[:1], np.asarray([7]), 2)
    teach(rig, rows, labels, 3)
    errors = [e.detail["error"] for e in rig.done.events if e.kind == "row_set_aside"]
    assert errors == [
        "the row has 3 features and the model takes 10",
        "the label is class 7 and the model has 2 classes",
    ]
    assert rig.status()["labelled_batches"] == 1


def test_many_bad_rows(picky: Package) -> None:
    """Many such rows without a whole batch between them are trouble that the status tells, over
    a restart too, once in an event; a batch without one ends it."""
    rig = Rig(picky)
    rows, labels = drifting(clean=300, drifted=0)
    teach(rig, with_bad(rows[:100], list(range(0, 100, 2))), labels[:100])
    assert "IndexError: index out of range" in rig.status()["rows_trouble"]
    assert rig.status()["rows_set_aside"] == 50
    assert rig.kinds().count("rows_set_aside") == 1
    assert rig.kinds().count("row_set_aside") == MANY_ROWS
    other = Rig(picky, rig.memory, adopt=False)
    restore(other.pipeline.parts, dump(rig.pipeline.parts))
    assert other.status()["rows_trouble"] == rig.status()["rows_trouble"]
    teach(rig, rows[100:], labels[100:], 101)
    assert rig.status()["rows_trouble"] == ""
    assert rig.status()["rows_set_aside"] == 50


def test_a_broken_model(picky: Package) -> None:
    """When the model answers nothing at all the rows are not at fault: none is set aside, and the
    step fails, to be tried again."""
    rig = Rig(picky, recipe="replay")
    rows, labels = drifting(clean=BATCH, drifted=0)
    teach(rig, rows[:-1], labels[:-1])
    picky.model.backbone.broken = True  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="reshape"):
        teach(rig, rows[-1:], labels[-1:], BATCH)
    assert rig.status()["rows_set_aside"] == 0
    assert len(rig.pipeline.parts.batches.open) == BATCH


def test_rows_stay_as_they_are(picky: Package) -> None:
    """A model that changes its input in place changes a copy: what the log and the buffer hold
    stays."""
    rows, labels = drifting(clean=BATCH, drifted=BATCH)
    before = rows.copy()
    predict_probabilities(picky.model, rows)
    picky.baseline(rows)
    picky.embed(rows)
    reference = picky.reference_rows.copy()
    with torch.no_grad():
        picky.model(picky.canary)
    ran = Live(Rig(picky))
    teach(ran.rig, rows, labels)
    assert np.array_equal(rows, before)
    assert np.array_equal(ran.rig.pipeline.parts.buffer.features, before)
    assert np.array_equal(picky.reference_rows, reference)


def test_no_rows(picky: Package) -> None:
    """A pipeline starts, is saved and restored, and forgets all its rows, without ever asking the
    model for 0 rows."""
    rig = Rig(picky)
    other = Rig(picky, rig.memory, adopt=False)
    restore(other.pipeline.parts, dump(rig.pipeline.parts))
    rows, labels = drifting(clean=BATCH, drifted=BATCH)
    teach(rig, rows[:BATCH], labels[:BATCH])
    assert rig.pipeline.forget("lab", "asked") == BATCH
    restore(Rig(picky, rig.memory, adopt=False).pipeline.parts, dump(rig.pipeline.parts))
    rig.pipeline.parts.batches.sources.known["lab"].quarantined = ""
    teach(rig, rows[BATCH:], labels[BATCH:], BATCH + 1)
    assert len(rig.pipeline.parts.buffer) == BATCH
