"""The checkpoint: a runner that died anywhere has the same future as one that never stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rigs import BATCH, Live, Memory, Rig, bits, correct, drifting, feed, live

from bento_selfheal.core.records import FeedbackRecord, PredictionRecord, Promotion, PromotionKind
from bento_selfheal.errors import StoreError
from bento_selfheal.healing.checkpoint import dump, package_of, restore
from bento_selfheal.packaging.package import Package


@pytest.fixture(scope="module")
def healed(package: Package) -> Live:
    """One drifting stream that was healed; only to be looked at."""
    return live(package)


def resumed(package: Package, rig: Rig) -> Rig:
    """A fresh pipeline over the same snapshots, where the other one was."""
    other = Rig(package, rig.memory, adopt=False)
    restore(other.pipeline.parts, dump(rig.pipeline.parts))
    return other


def test_any_place(package: Package, healed: Live) -> None:
    """Stopped and restored in the middle of any place of the log, time and again, the pipeline
    makes the same adapters to the bit, the same versions, promotions and status."""
    rig = Rig(package)
    decided: list[object] = []
    # 37 divides neither the batches nor the requests: it stops in the midst of all of them.
    for start in range(0, len(healed.log), 37):
        for entry in healed.log[start : start + 37]:
            rig.take(entry)
        decided += rig.decided()
        rig = resumed(package, rig)
    assert rig.memory.bits() == healed.rig.memory.bits()
    assert decided == healed.rig.decided()
    assert rig.status() == healed.rig.status()
    p, q = rig.pipeline, healed.rig.pipeline
    assert {v: replace(s, time=0.0) for v, s in p.parts.history.snapshots.items()} == {
        v: replace(s, time=0.0) for v, s in q.parts.history.snapshots.items()
    }
    assert bits(p.parts.line.challenger.answers.adapter_state()) == bits(
        q.parts.line.challenger.answers.adapter_state()
    )
    assert bits(p.parts.line.challenger.moments()) == bits(q.parts.line.challenger.moments())


@pytest.mark.parametrize("entries", [0, 1, 60, 400, 900])
def test_dump_is_whole(package: Package, healed: Live, entries: int) -> None:
    """What is restored dumps again to the very same bytes."""
    rig = Rig(package)
    for entry in healed.log[:entries]:
        rig.take(entry)
    assert dump(resumed(package, rig).pipeline.parts) == dump(rig.pipeline.parts)


def test_pace(package: Package) -> None:
    """How few the labels are is known after a restart: the gate asks for it."""
    rig = Rig(package)
    feed(rig)
    rig.pipeline.parts.line.challenger.rows_per_label = 7.5
    assert resumed(package, rig).pipeline.parts.line.challenger.rows_per_label == 7.5


def test_waiting_labels(package: Package) -> None:
    """Labels that wait for their prediction, and open and corrected ones, are kept over a
    restart."""
    rig = Rig(package)
    asked, labels = feed(rig)
    correct(rig, asked, BATCH + 1, 1 - labels[BATCH + 1])
    late = PredictionRecord(b"z" * 12, asked.features[:2], asked.probabilities[:2], 1, 5.0, 9)
    given = FeedbackRecord(b"z" * 12, 1, 1, 6.0, "lab", trace="00-x", after=8, seq=999)
    rig.take((given, None))
    other = resumed(package, rig)
    assert other.pipeline.parts.batches.joiner.pending() == [given]
    assert [r.label for r in other.pipeline.parts.batches.open] == [
        r.label for r in rig.pipeline.parts.batches.open
    ]
    other.take((late, None))
    assert other.pipeline.parts.batches.open[-1].feedback_seq == 999
    assert other.status()["labels"]["waiting"] == 0


def test_operators_words(package: Package) -> None:
    """A pause, a heal that is asked for, and how far commands were obeyed, outlive the runner."""
    rig = Rig(package)
    parts = rig.pipeline.parts
    parts.controls.paused, parts.cursors.commands = True, 7
    parts.drift.heal_requested = True
    other = resumed(package, rig).pipeline.parts
    assert (other.controls.paused, other.cursors.commands) == (True, 7)
    assert other.drift.heal_requested


def test_other_package(package: Package) -> None:
    """A checkpoint of another packaged model is refused by name, and nothing is taken of it."""
    rig = Rig(package)
    feed(rig)
    blob = dump(rig.pipeline.parts)
    assert package_of(blob) == package.tag
    other = Rig(replace(package, tag="another:v1"))
    before = other.status()
    with pytest.raises(StoreError, match=package.tag):
        restore(other.pipeline.parts, blob)
    assert other.status() == before


def test_lost_snapshot(package: Package, healed: Live) -> None:
    """When the snapshot that served is damaged, nothing is taken to serve and an event says so;
    falling back serves the newest promotion that verifies and writes it as a rollback."""
    serving = healed.rig.pipeline.parts.lineage.serving
    assert serving is not None
    memory = Memory(package)
    memory.kept, memory.damaged = healed.rig.memory.kept, {serving.tag}
    pipeline = Rig(package, memory, adopt=False).pipeline
    restore(pipeline.parts, dump(healed.rig.pipeline.parts))
    assert pipeline.parts.lineage.serving is None
    assert serving.tag in pipeline.journal.outcome.events[-1].detail["reason"]
    log = [
        Promotion(PromotionKind.INITIAL, 1, *clean_of(healed), "packaged", 0.0, seq=1),
        Promotion(PromotionKind.PROMOTE, serving.version, serving.tag, serving.sha256, "x", 0.0,
                  seq=2),
    ]  # fmt: skip
    pipeline.fall_back(log, 2)
    assert pipeline.parts.lineage.serving is not None
    assert pipeline.parts.lineage.serving.version == 1
    assert [(p.kind, p.version) for p in pipeline.journal.outcome.promotions] == [
        (PromotionKind.ROLLBACK, 1)
    ]


def clean_of(live: Live) -> tuple[str, str]:
    """Tag and hash of the clean snapshot."""
    clean = live.rig.pipeline.parts.history.snapshots[1]
    return clean.tag, clean.sha256


def test_rows_of_the_stream_are_kept(package: Package) -> None:
    """The batch that is open in the prediction log goes on where it was."""
    rows, _ = drifting(clean=BATCH, drifted=0)
    rig = Rig(package)
    head = PredictionRecord(b"a" * 12, rows[:30], package.baseline(rows[:30]), 1, 1.0, 1)
    rest = PredictionRecord(b"b" * 12, rows[30:], package.baseline(rows[30:]), 1, 1.0, 2)
    rig.take((head, None))
    other = resumed(package, rig)
    for one in (rig, other):
        one.take((rest, None))
    assert other.status() == rig.status()
    assert other.status()["batches"] == 1
