"""A correction is a label of whoever sends it: admitted, judged, counted and forgettable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rigs import BATCH, Live, Rig, drifting

from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.healing.labels.sources import UNNAMED
from bento_selfheal.packaging.package import Package


def labelled(package: Package, rows: int = 300, **more: Any) -> Live:
    """A calm stream that five desks label, a row for each in turn."""
    ran = Live(Rig(package, **more))
    desk(ran, *drifting(clean=rows, drifted=0))
    return ran


def desk(ran: Live, rows: NDArray[np.float32], labels: NDArray[Any], liar: str = "") -> None:
    """Label rows honestly; a liar then turns each label round."""
    before = len(ran.owed)
    for at in range(0, len(rows), BATCH):
        ran.delay = 10**9
        ran.send(rows[at : at + BATCH], labels[at : at + BATCH])
        due, ran.owed = ran.owed[before:], ran.owed[:before]
        for i, (asked, row, label) in enumerate(due):
            ran.label(asked, row, label, source=f"desk-{i % 5}")
            if liar:
                ran.label(asked, row, 1 - label, source=liar, corrects=True)


def answered(ran: Live) -> list[PredictionRecord]:
    """Everything that was predicted so far."""
    return [entry for entry, _ in ran.log if isinstance(entry, PredictionRecord)]


def turn_round(ran: Live, source: str | None, asked: PredictionRecord) -> None:
    """Correct every label of a request to its opposite."""
    held = dict(
        zip(ran.rig.pipeline.parts.buffer.keys, ran.rig.pipeline.parts.buffer.labels, strict=True)
    )
    for row in range(len(asked.features)):
        key = asked.request + row.to_bytes(4, "big")
        ran.label(asked, row, 1 - int(held.get(key, 0)), source=source, corrects=True)


def test_a_quarantined_source_corrects_nothing(package: Package) -> None:
    """What a quarantined source corrects is refused and counted so: labels in the buffer and in
    the open batch stay, and so does what serves."""
    ran = labelled(package, 320)
    ran.rig.pipeline.forget("liar", "asked")
    held = ran.rig.pipeline.parts.buffer.labels.copy()
    waiting = [row.label for row in ran.rig.pipeline.parts.batches.open]
    for asked in answered(ran):
        turn_round(ran, "liar", asked)
    assert np.array_equal(ran.rig.pipeline.parts.buffer.labels, held)
    assert [row.label for row in ran.rig.pipeline.parts.batches.open] == waiting
    labels = ran.rig.status()["labels"]
    assert (labels["corrected"], labels["refused"]) == (0, 320)
    assert ran.rig.status()["sources"]["liar"]["labels"] == 320


def test_a_quarantined_source_cannot_own_fresh_labels(package: Package) -> None:
    """Honest labels that a quarantined source corrects as they come still heal the model."""
    ran = labelled(package)
    ran.rig.pipeline.forget("liar", "asked")
    desk(ran, *drifting(seed=1, clean=0, drifted=900), liar="liar")
    last = ran.rig.status()["last"]
    assert last["champion"]["accuracy"] > last["shadow"]["accuracy"] + 0.2
    assert [n for n, s in ran.rig.status()["sources"].items() if s["quarantined"]] == ["liar"]


def test_a_lying_corrector_is_quarantined(package: Package) -> None:
    """Who corrects honest labels to lies is quarantined like one who lies at first, long before
    all are turned round, and the rows that it turned round leave the buffer."""
    ran = labelled(package)
    for asked in answered(ran):
        turn_round(ran, "liar", asked)
    assert "contradict" in ran.rig.status()["sources"]["liar"]["quarantined"]
    assert 0 < ran.rig.status()["labels"]["corrected"] < 100
    assert "liar" not in ran.rig.pipeline.parts.buffer.sources
    event = next(e for e in ran.rig.done.events if e.kind == "quarantine")
    assert event.detail["rows"] == ran.rig.status()["labels"]["corrected"] > 0


def test_lies_without_a_source_are_judged(package: Package) -> None:
    """Who corrects the labels of sources and names none is quarantined like one who is named, so
    that a quarantined source cannot go on without its name; labels without a source go on."""
    ran = labelled(package, 320)
    waiting = [row.label for row in ran.rig.pipeline.parts.batches.open]
    for asked in answered(ran):
        turn_round(ran, None, asked)
    assert "contradict" in ran.rig.status()["sources"][UNNAMED]["quarantined"]
    assert 0 < ran.rig.status()["labels"]["corrected"] < 100
    assert not {UNNAMED, None} & set(ran.rig.pipeline.parts.buffer.sources)
    assert [row.label for row in ran.rig.pipeline.parts.batches.open] == waiting
    ran.delay = 0
    ran.send(*drifting(seed=2, clean=100, drifted=0))
    assert None in ran.rig.pipeline.parts.buffer.sources


def test_an_honest_corrector_stays(package: Package) -> None:
    """Who puts right what others got wrong is never quarantined, also under drift."""
    ran = Live(Rig(package))
    rows, labels = drifting()
    wrong = np.where(np.arange(len(labels)) % 10 == 3, 1 - labels, labels)
    ran.delay = 10**9
    for at in range(0, len(rows), BATCH):
        ran.send(rows[at : at + BATCH], wrong[at : at + BATCH])
        for i, (asked, row, label) in enumerate(ran.owed):
            ran.label(asked, row, label, source=f"desk-{i % 5}")
        for asked, row, label in ran.owed:
            if row % 10 == 3:
                ran.label(asked, row, 1 - label, source="audit", corrects=True)
        ran.owed.clear()
    assert ran.rig.status()["sources"]["audit"]["quarantined"] is None
    assert ran.rig.status()["labels"]["corrected"] == len(rows) // 10


def test_forget_a_corrector(package: Package) -> None:
    """Rows that a source corrected are its own: they are dropped when it is forgotten, from the
    buffer and from the open batch."""
    ran = labelled(package, 320)
    asked = answered(ran)
    p = ran.rig.pipeline
    held = len(p.parts.buffer)
    for request, row in ((asked[0], 3), (asked[1], 4), (asked[-1], 19)):
        label = 0 if request is asked[-1] else int(p.parts.buffer.labels[0])
        ran.label(request, row, label, source="audit", corrects=True)
    assert [r.source for r in p.parts.batches.open].count("audit") == 1
    assert p.forget("audit", "asked") == 2
    assert len(p.parts.buffer) == held - 2
    assert "audit" not in {r.source for r in p.parts.batches.open}


def test_quota_of_corrections(package: Package) -> None:
    """Corrections count in the quota of who sends them."""
    ran = labelled(package, 300, source_quota=100)
    for asked in answered(ran):
        for row in range(len(asked.features)):
            ran.label(asked, row, 0, source="audit", corrects=True)
    audit = ran.rig.status()["sources"]["audit"]
    assert audit["over_quota"] >= 200 - ran.rig.status()["labels"]["corrected"] > 0
