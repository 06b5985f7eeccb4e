"""A canary answers a share of the requests first, all later, and none where it does harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rigs import BATCH, Live, Rig, drifting, live

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import OperatingPoint, PointKind, Promotion, PromotionKind, State
from bento_selfheal.healing.champion.canary import Underway
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.scores import Scores

SHARES = ("25", "60")
CANARY, PROMOTE, ROLLBACK = PromotionKind.CANARY, PromotionKind.PROMOTE, PromotionKind.ROLLBACK


def canary_of(package: Package, **more: object) -> Live:
    """A drifting stream up to where a canary answers the first share."""
    ran = Live(Rig(package, canary=SHARES, **{"canary_labels": 100, **more}))
    rows, labels = drifting(drifted=1500)
    for at in range(0, len(rows), BATCH):
        ran.send(rows[at : at + BATCH], labels[at : at + BATCH])
        if ran.rig.status()["canary"]:
            return ran
    raise AssertionError("no canary began")


def answered_by(ran: Live, version: int) -> float:
    """The share of the newest requests that a version answered."""
    asked = [entry.version for entry, of in ran.log if of is None][-200:]  # type: ignore[union-attr]
    return asked.count(version) / len(asked)


def test_a_share_first_and_all_later(package: Package) -> None:
    """What the gate lets through answers a quarter of the requests, then more, then all, each step
    after labels of its own answers; nothing else is promoted meanwhile, and each step says why."""
    ran = canary_of(package)
    before = ran.rig.status()
    [begun] = ran.rig.moves()
    assert (begun.kind, begun.share) == (CANARY, 0.25)
    assert begun.evidence["log_e"] >= begun.evidence["log_e_needed"] > 0
    assert before["serving"]["version"] == 1
    assert (before["canary"]["version"], before["canary"]["share"]) == (begun.version, 0.25)
    assert before["promotions"] == 0
    ran.send(*drifting(seed=3, clean=0, drifted=4000))
    moves = ran.rig.moves()[:3]
    assert [(p.kind, p.version, p.share) for p in moves] == [
        (CANARY, begun.version, 0.25), (CANARY, begun.version, 0.6), (PROMOTE, begun.version, 1.0)
    ]  # fmt: skip
    versions = [entry.version for entry, of in ran.log if of is None]  # type: ignore[union-attr]
    assert BATCH * versions.count(begun.version) >= 100
    assert "no evidence of harm on" in moves[1].reason
    events = [e for e in ran.rig.done.events if e.kind == "canary"]
    assert [e.detail["share"] for e in events[:2]] == [0.25, 0.6]
    assert [e.detail["from"] for e in events[:2]] == [1, 1]


def test_each_step_takes_labels_of_its_own_answers(package: Package) -> None:
    """Labels of rows that the champion answered bring a canary no step further."""
    ran = canary_of(package)
    p = ran.rig.pipeline.parts
    champion = p.lineage.champion, p.lineage.serving_version
    p.lineage.answering = lambda name: champion  # type: ignore[method-assign]
    ran.send(*drifting(seed=3, clean=0, drifted=1500))
    assert len(ran.rig.moves()) == 1
    assert ran.rig.status()["canary"]["labels"] < 100


def test_rolled_back_where_it_does_harm(package: Package) -> None:
    """The drift passes: what was healed for it is worse than the champion, which answers everything
    again; what was learned has to prove itself anew."""
    ran = canary_of(package, canary_labels=100_000)
    version = ran.rig.status()["canary"]["version"]
    pipeline = ran.rig.pipeline
    pipeline.healer.heal = lambda _, batch: None  # type: ignore[method-assign]
    ran.send(*drifting(seed=5, clean=4000, drifted=0))
    back = ran.rig.moves()[1]
    assert (back.kind, back.version) == (ROLLBACK, 1)
    assert back.evidence["from_version"] == version
    assert "loss higher by" in back.reason
    assert ran.rig.status()["canary"] is None
    assert ran.rig.status()["rollbacks"] == 1
    [told] = [e.detail for e in ran.rig.done.events if e.kind == "rollback"]
    assert (told["version"], told["from"]) == (1, version)


def test_harm_shows_on_rows_of_others_too(package: Package) -> None:
    """Labels of rows that the champion answered, and that were asked since, tell of harm as well:
    a small share need not do it first."""
    ran = canary_of(package, canary_labels=100_000)
    p = ran.rig.pipeline.parts
    champion = p.lineage.champion, p.lineage.serving_version
    p.lineage.answering = lambda name: champion  # type: ignore[method-assign]
    ran.rig.pipeline.healer.heal = lambda _, batch: None  # type: ignore[method-assign]
    ran.send(*drifting(seed=5, clean=4000, drifted=0))
    assert ran.rig.moves()[1].kind is ROLLBACK


def test_the_same_after_a_restart(package: Package) -> None:
    """A runner that starts again in the middle of a canary comes to the same promotions."""
    ran = canary_of(package)
    ran.send(*drifting(seed=2, clean=0, drifted=150))
    other = ran.copy()
    assert other.rig.status() == ran.rig.status()
    for one in (ran, other):
        one.send(*drifting(seed=3, clean=0, drifted=2500))
    assert other.rig.decided() == ran.rig.decided()
    assert other.rig.memory.bits() == ran.rig.memory.bits()
    assert PROMOTE in [p.kind for p in ran.rig.moves()]


@pytest.mark.parametrize("word", ["pause", "observe"])
def test_held(package: Package, word: str) -> None:
    """While an operator holds promotions back, a canary answers the share that it had."""
    ran = canary_of(package)
    ran.rig.pipeline.apply_command(word)
    ran.send(*drifting(seed=3, clean=0, drifted=2500))
    assert len(ran.rig.moves()) == 1
    assert ran.rig.status()["canary"]["share"] == 0.25
    ran.rig.pipeline.apply_command("resume")
    ran.send(*drifting(seed=4, clean=0, drifted=100))
    assert ran.rig.moves()[1].share == 0.6


def test_harm_while_observing(package: Package) -> None:
    """While observing, harm is told once and nothing is rolled back; after that it is."""
    ran = canary_of(package, canary_labels=100_000)
    ran.rig.pipeline.apply_command("observe")
    ran.rig.pipeline.healer.heal = lambda _, batch: None  # type: ignore[method-assign]
    ran.send(*drifting(seed=5, clean=4000, drifted=0))
    assert ran.rig.kinds().count("would_roll_back") == 1
    assert len(ran.rig.moves()) == 1
    ran.rig.pipeline.apply_command("resume")
    ran.send(*drifting(seed=5, clean=100, drifted=0))
    assert ran.rig.moves()[1].kind is ROLLBACK


def test_a_quarantined_source_ends_it(package: Package) -> None:
    """A canary that learned from a source which is forgotten answers nothing any more, at once."""
    ran = canary_of(package)
    version = ran.rig.status()["canary"]["version"]
    p = ran.rig.pipeline.parts
    p.buffer.sources[:] = ["bad" for _ in p.buffer.sources]
    assert ran.rig.pipeline.forget("bad", "asked for", "ann")
    ran.rig.collect()
    back = ran.rig.moves()[1]
    assert (back.kind, back.version, back.evidence["from_version"]) == (ROLLBACK, 1, version)
    assert "bad" in back.reason


def test_rolled_back_where_it_harms_a_segment(package: Package) -> None:
    """Where the packaged model stays right in one segment, a canary that does not leave it out is
    rolled back and named with it, however much better it is on all rows; the next one leaves the
    segment to the packaged model."""
    low = [{"rule": "F2 < -0.5", "name": "low"}]
    ran = canary_of(package, segments=low, canary_labels=100_000)
    version = ran.rig.status()["canary"]["version"]
    rows, truth = drifting(seed=7, clean=0, drifted=4000)
    place = package.info.features.index("F2")
    inside = rows[:, place] < -0.5
    truth[inside] = package.baseline(rows)[inside] >= 0.5
    for at in range(0, len(rows), BATCH):
        ran.send(rows[at : at + BATCH], truth[at : at + BATCH])
    back = ran.rig.moves()[1]
    assert (back.kind, back.evidence["from_version"]) == (ROLLBACK, version)
    assert back.reason == "it makes segment 'low' worse"
    later = ran.rig.moves()[2]
    assert later.kind is CANARY
    assert later.evidence["segments"]["left_out"] == ["low"]


def test_an_operators_rollback_ends_it(package: Package) -> None:
    """What an operator promotes serves all; a new line begins."""
    ran = canary_of(package)
    ran.rig.pipeline.adopt(
        Promotion(PromotionKind.ROLLBACK, 1, "m:1", "ab", "asked", 0.0, "operator", seq=90)
    )
    status = ran.rig.status()
    assert status["canary"] is None
    assert status["state"] == State.ROLLED_BACK.value
    assert ran.rig.pipeline.parts.line.trial is None


def test_each_row_counts_at_its_own_threshold(package: Package) -> None:
    """Rows that a canary answered were decided at its threshold, all others at the champion's."""
    ran = live(package)
    p = ran.rig.pipeline.parts
    snapshot = p.lineage.serving
    assert snapshot is not None
    point = OperatingPoint(0.2, PointKind.COSTS)
    p.canary.begin(
        Underway(replace(snapshot, version=77), p.lineage.champion, point, 0.5, 0.0, "r")
    )
    versions = np.asarray([snapshot.version, 77, 77, snapshot.version])
    said = np.asarray([0.4, 0.4, 0.1, 0.6], dtype=np.float32)
    labels = np.asarray([0, 1, 0, 1], dtype=np.float32)
    assert Scores.of(said, labels, p.thresholds(versions)).accuracy == 1
    assert Scores.of(said, labels, p.policy.point.threshold).accuracy == 0.75
    assert p.threshold_of(77) == 0.2
    p.canary.end()
    assert p.thresholds(versions) == p.policy.point.threshold


def test_rows_of_a_canary_are_not_the_lines(package: Package) -> None:
    """Losses of a canary, also of one that ended and whose labels come late, are no reason to take
    back the line that serves."""
    ran = live(package)
    p = ran.rig.pipeline.parts
    serving, before = p.lineage.serving, p.lineage.predecessor
    assert serving is not None
    assert before is not None
    assert serving.version > before.version
    asked = [(e, of) for e, of in ran.log if of is not None]
    rows = [r for e, of in asked[-60:] for r in p.batches.joiner.label(e, of, None)]  # type: ignore[arg-type]
    batch = LabelledBatch.of(rows, p.lineage.champion, package)
    worst = np.abs(1 - batch.labels)
    canary = replace(serving, version=serving.version + 500)
    p.canary.begin(Underway(canary, p.lineage.champion, p.policy.point, 0.5, 0.0, "r"))
    for _ in range(2):  # while it is underway, and after it
        p.rollback.regret.restart()
        versions = np.full(len(rows), canary.version)
        bad = replace(batch, served=worst, versions=versions)
        for _ in range(30):
            assert p.rollback.check(bad, p.thresholds, 1) is None
        p.canary.end()
    lost = replace(batch, served=worst, versions=np.full(len(rows), serving.version))
    assert any(p.rollback.check(lost, p.thresholds, 1) for _ in range(30))


def test_candidates_meet_the_champion(package: Package) -> None:
    """What a retrained model is compared with is the champion's, also where a canary answered."""
    ran = canary_of(package)
    p = ran.rig.pipeline.parts
    asked = [(e, of) for e, of in ran.log[-400:] if of is not None]
    rows = p.batches.joiner.label(asked[-1][0], asked[-1][1], None)  # type: ignore[arg-type]
    assert rows
    batch = LabelledBatch.of(rows, p.lineage.champion, package)
    own = replace(batch, versions=np.full(len(rows), p.canary.version))
    other = replace(batch, versions=np.full(len(rows), p.lineage.serving_version))
    assert np.array_equal(p.canary.champions(other, p.lineage.champion), batch.served)
    said = p.canary.champions(own, p.lineage.champion)
    assert np.array_equal(said, own.answers(p.lineage.champion))


def test_costs_are_judged(package: Package) -> None:
    """With costs of mistakes, what a canary is promoted with is a threshold of its own answers."""
    ran = canary_of(package, thresholds=Thresholds(miss_cost=5.0))
    ran.send(*drifting(seed=3, clean=0, drifted=3000))
    moves = ran.rig.moves()[:3]
    assert [p.kind for p in moves] == [CANARY, CANARY, PROMOTE]
    assert moves[0].operating_point == moves[1].operating_point
    assert moves[2].operating_point is not None
