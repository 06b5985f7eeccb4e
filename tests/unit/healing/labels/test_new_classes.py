"""Labels of a class that nobody trained on are kept, counted and told of; nothing stops."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from rigs import BATCH, Live, Rig, drifting, feed

from bento_selfheal.core.labels import NO_LABEL, index_of_new, name_of_new
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord, State
from bento_selfheal.healing.labels.unlearnable import MOST_CLASSES, MOST_ROWS, NewClasses
from bento_selfheal.packaging.package import Package
from bento_selfheal.runner.retrain_export import write_labelled


def new(name: int | str) -> dict[str, int | str]:
    """A label of a class that the model lacks."""
    return {"label": index_of_new(name_of_new(name)), "new_class": name_of_new(name)}


def stream(package: Package, every: int, rows: int = 400) -> Live:
    """A calm stream in which every so many rows are of a new class."""
    ran = Live(Rig(package), delay=10**9)
    ran.send(*drifting(clean=rows, drifted=0))
    for i, (asked, row, label) in enumerate(ran.owed):
        given = new(2) if i % every == 0 else {"label": label}
        ran.label(asked, row, **given)  # type: ignore[arg-type]
    return ran


def test_many_of_a_new_class(package: Package, tmp_path: Path) -> None:
    """When more than the set share of labels are of a new class, an event has told of it, a
    retrain is needed, and its rows are in the export; the others heal on."""
    ran = stream(package, every=10)
    rig = ran.rig
    told = rig.status()
    assert told["new_classes"]["classes"] == {"2": 40}
    assert abs(told["new_classes"]["share"] - 0.1) < 0.02
    assert (told["labels"]["joined"], told["labels"]["new_class"]) == (400, 40)
    assert told["labelled_batches"] >= 6
    [first] = [e.detail for e in rig.done.events if e.kind == "new_class"]
    assert first["class"] == 2
    [needed] = [e.detail for e in rig.done.events if e.kind == "retrain_needed"]
    assert "never saw: 2" in needed["reason"]
    ran.send(*drifting(clean=BATCH, drifted=0))
    assert rig.pipeline.parts.shown.now is State.RETRAIN_NEEDED
    file = tmp_path / "rows.parquet"
    parts = rig.pipeline.parts
    rows = write_labelled(file, package, parts.buffer, parts.batches.new_classes)
    labels = pq.read_table(file)["label"].to_pylist()
    assert (len(labels), labels.count(2)) == (rows, 40)


def test_few_of_a_new_class(package: Package) -> None:
    """A stray label is told of once, and asks for nothing."""
    ran = stream(package, every=150)
    assert ran.rig.kinds().count("new_class") == 1
    assert ran.rig.status()["retrain"] is None


def test_only_new_classes(package: Package) -> None:
    """Where no label is of a known class a retrain is needed, though no batch ever fills."""
    ran = stream(package, every=1, rows=100)
    assert ran.rig.status()["labelled_batches"] == 0
    assert "100.0%" in str(ran.rig.status()["retrain"])


def test_corrected_to_and_from(package: Package) -> None:
    """A row that is corrected to a new class is trained on no more; corrected back, it is, and
    counts in no figure twice. All of it outlives a restart."""
    rig = Rig(package)
    asked, labels = feed(rig)
    scored = rig.status()["champion"]

    def give(row: int, label: int, **more: str) -> None:
        seq = rig.pipeline.parts.cursors.feedback + 1
        given = FeedbackRecord(
            asked.request, row, label, 3.0, corrects=True, after=1, seq=seq, **more
        )  # type: ignore[arg-type]
        rig.take((given, asked))

    def here(row: int) -> tuple[bool, bool]:
        key, p = asked.request + row.to_bytes(4, "big"), rig.pipeline.parts
        return key in p.buffer.keys or key in {r.key for r in p.batches.open}, (
            key in p.batches.new_classes.rows
        )

    for row in (3, BATCH + 3):
        give(row, **new("grey"))  # type: ignore[arg-type]
        assert here(row) == (False, True)
        rig = rig.copy()
        assert here(row) == (False, True)
        give(row, labels[row])
        assert here(row) == (True, False)
    give(4, **new("grey"))  # type: ignore[arg-type]
    give(4, NO_LABEL)
    assert here(4) == (False, False)
    assert rig.status()["champion"] == scored


def test_a_quarantined_source_names_no_class(package: Package) -> None:
    """Who is quarantined cannot make the service ask for a retrain, and what it named goes."""
    ran = Live(Rig(package), delay=10**9)
    ran.send(*drifting(clean=100, drifted=0))
    for asked, row, _ in ran.owed[:50]:
        ran.label(asked, row, source="liar", **new(5))  # type: ignore[arg-type]
    assert ran.rig.pipeline.forget("liar", "asked") == 50
    for asked, row, _ in ran.owed[50:]:
        ran.label(asked, row, source="liar", **new(6))  # type: ignore[arg-type]
    told = ran.rig.status()
    assert (told["labels"]["refused"], told["new_classes"]["rows"]) == (50, 0)
    assert "6" not in told["new_classes"]["classes"]


def test_bounded(package: Package) -> None:
    """However many classes are invented, so many are named, and so many rows kept."""
    rig = Rig(package)
    asked, _ = feed(rig, 10)
    many = MOST_ROWS + 10
    classes = NewClasses(0.05)
    row = rig.pipeline.parts.batches.open[0]
    for i in range(many):
        named = {**vars(row), "key": i.to_bytes(16, "big"), "new_class": name_of_new(f"c{i}")}
        classes.saw(new=True)
        classes.add(type(row)(**named))
    assert isinstance(asked, PredictionRecord)
    assert len(classes.counts) == MOST_CLASSES + 1
    assert (sum(classes.counts.values()), len(classes.rows)) == (many, MOST_ROWS)
