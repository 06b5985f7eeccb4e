"""A label that is taken back is learned from no more, and a new one of its row counts again."""

from __future__ import annotations

import numpy as np
from rigs import BATCH, Live, Rig, drifting, feed

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.packaging.package import Package


def give(rig: Rig, asked: PredictionRecord, row: int, label: int) -> None:
    """Give a row another label, or take the one that it has back."""
    seq = rig.pipeline.parts.cursors.feedback + 1
    given = FeedbackRecord(asked.request, row, label, 3.0, corrects=True, after=1, seq=seq)
    rig.take((given, asked))


def key_of(asked: PredictionRecord, row: int) -> bytes:
    return asked.request + row.to_bytes(4, "big")


def test_leaves_the_buffer_and_comes_back(package: Package) -> None:
    """A label that was trained on leaves the buffer; a new one enters it, and counts in no figure
    a second time."""
    rig = Rig(package)
    asked, labels = feed(rig)
    buffer, scored = rig.pipeline.parts.buffer, rig.status()["champion"]
    give(rig, asked, 3, NO_LABEL)
    assert key_of(asked, 3) not in buffer.keys
    assert len(buffer) == BATCH - 1
    give(rig, asked, 3, 1 - labels[3])
    assert buffer.keys[-1] == key_of(asked, 3)
    assert buffer.labels[-1] == 1 - labels[3]
    told = rig.status()["labels"]
    assert (told["joined"], told["retracted"], told["corrected"]) == (BATCH + 10, 1, 1)
    assert rig.status()["champion"] == scored
    give(rig, asked, 3, labels[3])
    assert (buffer.labels[-1], len(buffer)) == (labels[3], BATCH)


def test_leaves_the_open_batch_and_comes_back(package: Package) -> None:
    """A label that waits for its batch leaves it; a new one counts as the first that came, once."""
    rig = Rig(package)
    asked, labels = feed(rig)
    row = BATCH + 2
    give(rig, asked, row, NO_LABEL)
    assert key_of(asked, row) not in {r.key for r in rig.pipeline.parts.batches.open}
    rig = rig.copy()  # also across a restart
    give(rig, asked, row, 1 - labels[row])
    waiting = {r.key: r.label for r in rig.pipeline.parts.batches.open}
    assert waiting[key_of(asked, row)] == 1 - labels[row]
    told = rig.status()["labels"]
    assert (told["joined"], told["retracted"], told["corrected"]) == (BATCH + 10, 1, 0)


def test_waits_with_its_label(package: Package) -> None:
    """Label, retraction and new label that are ahead of their prediction come to the last one."""
    rig = Rig(package)
    asked, _ = feed(Rig(package), 2)
    for seq, label in enumerate((1, NO_LABEL, 0), start=1):
        early = FeedbackRecord(asked.request, 0, label, 1.0, corrects=seq > 1, after=0, seq=seq)
        rig.take((early, None))
    rig.take((asked, None))
    assert [(r.key, r.label) for r in rig.pipeline.parts.batches.open] == [(key_of(asked, 0), 0)]


def test_a_row_with_its_features(package: Package) -> None:
    """A row that came with its features is known by its content, by whatever key it is named."""
    rig, row = Rig(package), np.zeros(10, dtype=np.float32)
    for seq, (label, key) in enumerate([(1, b"a" * 16), (NO_LABEL, None), (0, b"b" * 16)], 1):
        given = FeedbackRecord(
            b"c" * 12, 0, label, 1.0, features=row, corrects=seq > 1, seq=seq, key=key
        )
        rig.take((given, None))
        assert len(rig.pipeline.parts.batches.open) == (label != NO_LABEL)


def test_rows_with_their_features_are_watched(package: Package) -> None:
    """Rows that come with their features count for the snapshot that serves: in its figures, and
    in the evidence against it."""
    ran = Live(Rig(package))
    ran.send(*drifting())
    p = ran.rig.pipeline
    serving, before = p.parts.lineage.serving, p.parts.rollback.regret.process.count
    assert serving is not None
    assert serving.version > 1
    rows, labels = drifting(seed=3, clean=0, drifted=2 * BATCH)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        given = FeedbackRecord(
            i.to_bytes(12, "little"), 0, int(label), ran.requests, features=row,
            after=ran.requests, seq=10_000 + i,
        )  # fmt: skip
        ran.rig.take((given, None))
    assert p.parts.rollback.regret.process.count >= before + 2 * BATCH
