"""Why it drifts: the input that moved is named, and whether its meaning changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mixed import codes, flights, packaged
from networks import packaged_stripes, packaged_texts, striped, texts
from numpy.typing import NDArray
from rigs import Live, Rig, settings_of

from bento_selfheal.healing.causes.causes import Causes
from bento_selfheal.packaging.opening import open_embedder
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream

Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def package() -> Package:
    return packaged(n=2000)


def causes_of(package: Package) -> Causes:
    """Those of a pipeline that has read nothing."""
    return Rig(package).pipeline.parts.drift.causes


def seen(package: Package, rows: Rows) -> dict[str, Any]:
    """What is known of a drift after these rows, in batches of 50."""
    causes = causes_of(package)
    for at in range(0, len(rows), 50):
        causes.place += 1
        causes.take(rows[at : at + 50])
    return causes.begin(fallen=False)


def told(package: Package, rows: list[list[Any]], labels: list[str]) -> list[dict[str, Any]]:
    """What events say of the causes of a drift in these rows, after 1,000 calm ones."""
    calm, before = flights(1000, seed=5)
    late = np.asarray([label == "late" for label in (*before, *labels)], dtype=np.int64)
    run = Backtest(package, settings_of(buffer_rows=5000))
    list(run.run(Stream(codes([*calm, *rows]), late, 100, 100)))
    kinds = ("drifting", "drift_explained")
    return [event.detail.get("causes", event.detail) for event in run.events if event.kind in kinds]


def hail(row: list[Any]) -> list[Any]:
    """A category that training lacked."""
    return [*row[:3], "hail", *row[4:]]


def silent(row: list[Any]) -> list[Any]:
    """A number that no longer comes."""
    return [None, *row[1:]]


def faster(row: list[Any]) -> list[Any]:
    """A number that is larger."""
    return [None if row[0] is None else row[0] + 40, *row[1:]]


@pytest.mark.parametrize(
    ("change", "column", "of"),
    [(hail, "sky", "unseen"), (silent, "speed", "missing"), (faster, "speed", "values")],
)
def test_the_column_that_moved_comes_first(
    package: Package, change: Callable[[list[Any]], list[Any]], column: str, of: str
) -> None:
    """Whoever reads the event learns which column moved, and what of it."""
    known = seen(package, codes([change(row) for row in flights(500, seed=5)[0]]))
    first = known["columns"][0]
    assert (first["name"], first["of"], first["moved"]) == (column, of, True)
    assert known["moved"] == 1
    assert first["divergence"] > 5 * first["expected"]
    assert column in known["sentence"]


def test_nothing_is_named_where_nothing_moved(package: Package) -> None:
    """A false alarm names no column, and says that labels are still to tell."""
    known = [seen(package, codes(flights(500, seed=seed)[0])) for seed in range(20, 30)]
    assert [one["moved"] for one in known] == [0] * 10
    assert {one["kind"] for one in known} == {"not enough labels to tell"}
    assert known[0]["sentence"].startswith("no input moved; ")


def test_a_few_rows_with_a_new_gap_are_enough(package: Package) -> None:
    """A column that was never empty is named once 3 % of the rows lack it."""
    rows = codes(flights(500, seed=5)[0])
    rows[::33, 4] = np.nan
    first = seen(package, rows)["columns"][0]
    assert (first["name"], first["of"], first["moved"]) == ("day", "missing", True)


def test_a_changed_meaning_is_told_from_moved_inputs(package: Package) -> None:
    """When rain delays and no longer fog, labels say so, and no input has moved."""
    known = told(package, *flights(2500, seed=6, turned=True))
    first = next(one for one in known if one["kind"] != "not enough labels to tell")
    assert first["kind"] == "concept drift"
    assert [c["name"] for c in first["columns"] if c["meaning_changed"]] == ["sky"]
    assert "the meaning of sky changed" in first["sentence"]


def test_moved_inputs_that_mean_the_same_are_no_concept_drift(package: Package) -> None:
    """Where more flights are fast, and late for the reasons of before, labels say that no meaning
    changed, and by how much it did not."""
    fast = [pair for pair in zip(*flights(5000, seed=6), strict=True) if (pair[0][0] or 0) > 140]
    known = told(package, [row for row, _ in fast], [label for _, label in fast])
    settled = [one for one in known if one["kind"] != "not enough labels to tell"]
    assert {one["kind"] for one in settled} == {"covariate shift"}
    assert settled[-1]["columns"][0]["name"] == "speed"
    assert "its meaning did not change by" in settled[-1]["sentence"]


def test_numbers_in_another_unit_are_both(package: Package) -> None:
    """Where speeds are told as larger than they are, the input moved, and means something else."""
    rows, labels = flights(2500, seed=6)
    known = told(package, [faster(row) for row in rows], labels)
    assert any(one["kind"] == "covariate shift and concept drift" for one in known)
    assert known[-1]["columns"][0]["name"] == "speed"


def test_the_image_is_named_and_so_is_a_fact_beside_it() -> None:
    """Of images the hidden vector is compared as one input, and each fact by its name."""
    package = packaged_stripes()
    embedder = open_embedder(package)
    assert embedder is not None

    def rows(*, inverted: bool = False, french: float = 0.5) -> Rows:
        images, _ = striped(500, seed=7, inverted=inverted)
        country = (np.random.default_rng(8).random(500) < french)[:, None]
        hidden = embedder.embed([embedder.source.read(image) for image in images])
        return np.concatenate([hidden, country], axis=1).astype(np.float32)

    assert seen(package, rows())["moved"] == 0
    for known, name in ((rows(inverted=True), "image"), (rows(french=0.9), "country")):
        first = seen(package, known)["columns"][0]
        assert (first["name"], first["moved"]) == (name, True)


def test_the_text_is_named() -> None:
    """Texts of other words are another place of the hidden vector."""
    package = packaged_texts()
    embedder = open_embedder(package)
    assert embedder is not None
    calm, other = texts(500, seed=3)[0], [f"{one.split()[0]} zzz zzz" for one in texts(500)[0]]
    assert seen(package, embedder.embed(calm))["moved"] == 0
    first = seen(package, embedder.embed(other))["columns"][0]
    assert (first["name"], first["of"], first["moved"]) == ("text", "input", True)


def test_a_drift_before_any_row(package: Package) -> None:
    """A drift that is seen before a batch of rows is full compares labelled rows, if there are
    any."""
    assert causes_of(package).begin(fallen=False)["sentence"] == "no rows to compare yet"
    rig = Rig(package)
    rows, labels = flights(40, seed=5)
    Live(rig, delay=0).send(codes(rows), np.asarray([label == "late" for label in labels]))
    rig.pipeline.heal_now()
    known = rig.pipeline.parts.drift.causes.begin(fallen=True)
    assert (known["rows"], known["kind"]) == (25, "not enough labels to tell")


def test_a_checkpoint_keeps_what_is_known_of_a_drift(package: Package) -> None:
    """A runner that starts again in the middle of a drift finds the same causes, to the bit."""
    calm, later = flights(500, seed=5), flights(900, seed=6, turned=True)
    rows = codes([*calm[0], *(faster(row) for row in later[0])])
    late = np.asarray([label == "late" for label in (*calm[1], *later[1])])
    whole = Live(Rig(package))
    whole.send(rows[:800], late[:800])
    assert whole.rig.status()["causes"]["moved"] == 1
    other = whole.copy()
    for one in (whole, other):
        one.send(rows[800:], late[800:])
    assert whole.rig.status()["causes"]["labels"] >= 250
    assert other.rig.status()["causes"] == whole.rig.status()["causes"]
    states = [one.rig.pipeline.parts.drift.causes.state() for one in (whole, other)]
    assert str(states[0]) == str(states[1])
    events = [
        [event.detail for event in one.rig.done.events if event.kind == "drift_explained"]
        for one in (whole, other)
    ]
    assert events[0] == events[1] != []
