"""The ranking guard: nothing is promoted that ranks rows worse than what it replaces."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import Live, Rig, drifting
from sklearn.metrics import roc_auc_score

from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.healing.evidence.ranking import MOST_ROWS, WINDOW, RankingGuard
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.auc import auc_gap

Said = NDArray[np.float32]


def scores(labels: NDArray[np.int64], skill: float, seed: int) -> Said:
    """Answers that rank the labels the better, the more skill they have."""
    generator = np.random.default_rng(seed)
    return (1 / (1 + np.exp(-(skill * labels + generator.normal(size=len(labels)))))).astype("f4")


def labels(n: int = 500, share: float = 0.5) -> NDArray[np.int64]:
    return (np.arange(n) % int(1 / share) == 0).astype(np.int64)


def refusal(challenger: float, champion: float, baseline: float) -> str:
    """What a guard says of three models of so much skill."""
    guard, truth = RankingGuard(), labels()
    said = [scores(truth, skill, 0) for skill in (challenger, champion, baseline)]
    guard.add(*said, truth.astype("f4"), 1.0)
    return guard.refusal()


@pytest.mark.parametrize(
    ("challenger", "champion", "baseline", "against"),
    [
        (1.0, 2.0, 1.0, "what serves"), (1.0, 1.0, 2.0, "the frozen model"),
        (2.0, 1.0, 1.0, ""), (1.5, 0.5, 2.5, ""),
    ],
    ids=["below the champion", "below the frozen model", "above both", "above the champion"],
)  # fmt: skip
def test_who_is_held_back(
    challenger: float, champion: float, baseline: float, against: str
) -> None:
    """A challenger that ranks worse than what serves, or no better than that and worse than the
    frozen model, is held back; one that ranks better than what serves never is."""
    said = refusal(challenger, champion, baseline)
    assert (against in said) if against else not said


def test_equal_models_pass() -> None:
    """The same answers are no worse, and neither are answers to rows of one class."""
    guard, truth = RankingGuard(), labels()
    assert guard.refusal() == ""
    one = np.zeros(50, dtype="f4")
    guard.add(one + 0.2, one + 0.7, one + 0.7, one, 1.0)
    assert guard.refusal() == ""
    said = scores(truth, 1.0, 0)
    guard.add(said, said, said, truth.astype("f4"), 1.0)
    assert guard.refusal() == ""


@pytest.mark.parametrize("classes", [2, 4])
def test_gap(classes: int) -> None:
    """The gap is the difference of AUC, of many classes the mean of one against the others, and
    its error is the spread of that difference over samples."""
    generator = np.random.default_rng(0)

    def sample() -> tuple[float, float, float]:
        truth = generator.integers(0, classes, 400)
        both = []
        for skill in (1.2, 1.0):
            said = np.exp(skill * np.eye(classes)[truth] + generator.normal(size=(400, classes)))
            said /= said.sum(axis=1, keepdims=True)
            both.append(said if classes > 2 else said[:, 1])
        found = auc_gap(both[0], both[1], truth)
        assert found is not None
        real = [roc_auc_score(truth, said, multi_class="ovr") for said in both]
        return *found, real[0] - real[1]

    gaps, errors, real = np.asarray([sample() for _ in range(200)]).T
    assert gaps == pytest.approx(real)
    assert np.mean(errors) == pytest.approx(np.std(gaps), rel=0.15)


def test_the_window_is_bounded() -> None:
    """The newest 500 rows count, more where a class is rare, and never more than 5,000."""
    guard, truth = RankingGuard(), labels(6000)
    bad, good = scores(truth, 0.2, 0), scores(truth, 2.0, 1)
    guard.add(bad, good, good, truth.astype("f4"), 1.0)
    assert f"on {WINDOW} labels" in guard.refusal()
    for rarity, rows in ((4.0, 4 * WINDOW), (100.0, MOST_ROWS)):
        guard.add(bad, good, good, truth.astype("f4"), rarity)
        assert f"on {rows} labels" in guard.refusal()


def test_few_labels_of_many_rows() -> None:
    """A gap of less than two errors on a fifth of the window holds nobody back where a label comes
    for one row in twenty, since chance makes such ones; a plain one does, and both do with all
    labels."""
    truth = labels(WINDOW // 5)
    good = scores(truth, 2.0, 0)
    for share, held in ((0.0, True), (0.5, False)):
        guard = RankingGuard()
        bad = scores(truth, 0.2, 1) * (1 - share) + good * share
        guard.add(bad, good, good, truth.astype("f4"), 1.0)
        gap, error = auc_gap(bad, good, truth) or (0.0, 1.0)
        assert gap < -error, (share, gap, error)
        assert (gap < -2.2 * error) is held, (share, gap, error)
        assert bool(guard.refusal(20.0)) is held
        assert guard.refusal()


def test_held_back_in_a_pipeline(package: Package) -> None:
    """A line that has proven its gain and ranks worse does not serve; one event says why, also
    over a restart, and once it ranks as well it is promoted, on evidence of that time."""
    rig = Rig(package)
    ran = Live(rig)
    why = ["it ranks rows worse"]
    rig.pipeline.parts.line.ranking.refusal = lambda _: why[0]  # type: ignore[method-assign]
    ran.send(*drifting())
    assert rig.done.promotions == []
    held = [e.detail for e in rig.done.events if e.kind == "promotion_withheld"]
    assert [d["reason"] for d in held] == ["it ranks rows worse"]
    why[0] = ""
    ran.send(*drifting(seed=3, clean=0, drifted=300))
    first = rig.done.promotions[0].evidence
    assert first["log_e"] >= first["log_e_needed"] > 0


@pytest.mark.parametrize("guarded", [True, False])
def test_accuracy_is_not_enough(
    package: Package, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A challenger that finds half of one class for certain, and cannot tell the other half from
    the rest, has the higher accuracy and ranks worse: an event says that it is held back, by how
    much. Without the guard it would serve."""
    if not guarded:
        monkeypatch.setattr(RankingGuard, "refusal", lambda *_: "")
    rows, truth = drifting(clean=0, drifted=800, drift=1.0)
    found = (truth == 1) & (np.random.default_rng(0).random(len(truth)) < 0.5)
    answers = {
        row.tobytes(): one for row, one in zip(rows, np.where(found, 0.9, 0.05), strict=True)
    }
    frozen = package.baseline(rows)
    assert ((frozen > 0.5) == truth).mean() < (found == truth).mean() - 0.05
    assert roc_auc_score(truth, frozen) > roc_auc_score(truth, found) + 0.05
    rig = Rig(package, reference_floor=0.0)
    line, others = rig.pipeline.parts.line, LabelledBatch.answers

    def says(batch: LabelledBatch, model: SelfHealingModel) -> NDArray[np.float32]:
        if model is not line.challenger.answers:
            return others(batch, model)
        known = [answers.get(row.tobytes(), 0.05) for row in batch.features]
        return np.asarray(known, dtype=np.float32)

    monkeypatch.setattr(LabelledBatch, "answers", says)
    Live(rig).send(rows, truth)
    held = [e.detail for e in rig.done.events if e.kind == "promotion_withheld"]
    assert bool(rig.done.promotions) is not guarded
    assert len(held) == guarded
    if held:
        assert "it ranks rows worse than what serves: AUC lower by 0." in held[0]["reason"]
        assert held[0]["version"] in rig.done.snapshots


def test_a_checkpoint_keeps_the_window(package: Package) -> None:
    """A restored guard says the same; a checkpoint without a window is accepted."""
    ran = Live(Rig(package))
    ran.send(*drifting(drifted=400))
    guard = ran.rig.pipeline.parts.line.ranking
    assert guard.state()["labels"].shape[0] > 100
    again = Rig(package, ran.rig.memory, adopt=False)
    restore(again.pipeline.parts, dump(ran.rig.pipeline.parts))
    kept = again.pipeline.parts.line.ranking
    assert {k: v.tolist() for k, v in kept.state().items()} == {
        k: v.tolist() for k, v in guard.state().items()
    }
    older = ran.rig.pipeline.parts.line.state()
    again.pipeline.parts.line.restore({k: v for k, v in older.items() if "ranking" not in k})
    assert again.pipeline.parts.line.ranking.refusal() == ""
