"""The pipeline: test, then train; the same log gives the same heals; nothing but adapters move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rigs import BATCH, Live, Rig, bits, correct, drifting, feed, live, taken_back

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import (
    FeedbackRecord,
    NewSnapshot,
    Phase,
    PredictionRecord,
    Promotion,
    PromotionKind,
    State,
)
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.healing.evidence.e_process import EProcess
from bento_selfheal.healing.journal import Outcome
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.packaging.package import Package
from bento_selfheal.rules import RuleSet
from bento_selfheal.scoring.losses import cost_of
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.streams import article_rows


@pytest.fixture(scope="module")
def healed(package: Package) -> Live:
    """One drifting stream that was healed; only to be looked at."""
    return live(package)


# -- promises -------------------------------------------------------------------------------


def test_heals(healed: Live) -> None:
    """On a drifting stream the served accuracy is won back, promotions say on what evidence,
    and every heal leaves a pre-heal and a post-heal snapshot."""
    status = healed.rig.status()
    assert status["heals"] >= 3
    assert status["promotions"] == len(healed.rig.moves()) >= 1
    assert status["last"]["champion"]["accuracy"] > status["last"]["shadow"]["accuracy"] + 0.2
    assert status["lift"]["low"] > 0
    phases = [s.phase for s in healed.rig.done.snapshots.values() if s.version > 1]
    refreshes = len(healed.rig.done.promotions) - len(healed.rig.moves())
    assert phases.count(Phase.PRE) == phases.count(Phase.POST) - refreshes == status["heals"]
    first = healed.rig.done.promotions[0].evidence
    assert first["log_e"] >= first["log_e_needed"] > 0
    assert first["mean_gain"] > 0
    for p in healed.rig.moves():
        assert p.evidence["mean_gain"] >= -p.evidence["standard_error"]
        assert 0 < p.evidence["first_label"] <= p.evidence["last_label"] <= healed.labels
        assert p.evidence["thresholds"] == Thresholds().model_dump()
        assert p.reason


def test_replay(package: Package, healed: Live) -> None:
    """The same log replayed gives the same adapters to the bit and the same promotions for the
    same reasons, whatever else drew random numbers."""
    torch.manual_seed(123)
    np.random.seed(5)
    again = Rig(package)
    for entry in healed.log:
        again.take(entry)
        torch.rand(1)
    assert again.memory.bits() == healed.rig.memory.bits()
    assert again.decided() == healed.rig.decided()
    assert again.status() == healed.rig.status()
    assert again.kinds() == healed.rig.kinds()


def test_chunks(package: Package, healed: Live) -> None:
    """How the requests of the prediction log were cut does not matter to the signals: batches
    are rows of the log, not requests."""
    whole, parts = Rig(package), Rig(package)
    requests = [e for e, _ in healed.log if isinstance(e, PredictionRecord)]
    for asked in requests:
        whole.take((asked, None))
        for part, cut in enumerate((slice(0, 7), slice(7, 31), slice(31, None))):
            parts.take((
                replace(
                    asked, features=asked.features[cut], probabilities=asked.probabilities[cut],
                    seq=3 * asked.seq + part,
                ),
                None,
            ))  # fmt: skip
        assert (
            parts.pipeline.parts.drift.signals.reading == whole.pipeline.parts.drift.signals.reading
        )
    assert parts.kinds() == whole.kinds()


def test_frozen(package: Package) -> None:
    """Backbone and head are the same to the bit after any number of heals, in the champion, in
    the challenger and in the shadow; the shadow's adapter is untouched too."""
    before = bits(package.model.state_dict())
    ran = Live(Rig(package))
    ran.send(*drifting())
    p = ran.rig.pipeline
    assert p.parts.scoreboard.counts.heals
    assert bits(package.model.state_dict()) == before
    for model in (p.parts.lineage.champion, p.parts.line.challenger.answers):
        now = bits(model.state_dict())
        assert {k for k in before if now[k] != before[k]} <= {
            k for k in before if k.startswith("reflexive.")
        }
    assert bits(p.parts.lineage.champion.adapter_state()) != bits(package.model.adapter_state())


class Spy:
    """A recipe that notes what it was given, then trains as the real one."""

    name = "spy"

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.trained: set[bytes] = set()
        self.heals = 0

    def heal(self, challenger: Challenger, rows: LabelledRows, rules: RuleSet,
             generator: torch.Generator) -> dict[str, float]:  # fmt: skip
        self.heals += 1
        self.trained |= {row.tobytes() for row in rows.features}
        return self.inner.heal(challenger, rows, rules, generator)  # type: ignore[no-any-return]


def test_test_then_train(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row on which the challenger is compared with the champion was trained on before; and
    every labelled row is trained on in the end."""
    rig = Rig(package, buffer_rows=5000)
    spy = Spy(rig.pipeline.healer._recipe)
    rig.pipeline.healer._recipe = spy
    compared: set[bytes] = set()
    tried = rig.pipeline.healer.try_challenger

    def watch(batch: LabelledBatch) -> None:
        mine = {row.features.tobytes() for row in batch.rows}
        assert not mine & spy.trained
        if rig.pipeline.parts.line.trial is not None:
            compared.update(mine)
        tried(batch)

    monkeypatch.setattr(rig.pipeline.healer, "try_challenger", watch)
    ran = Live(rig)
    ran.send(*drifting())
    assert spy.heals >= rig.pipeline.parts.scoreboard.counts.heals > 3
    assert len(compared) >= 5 * BATCH
    parts = rig.pipeline.parts
    waiting = {row.features.tobytes() for row in parts.batches.open}
    held = {row.tobytes() for row in parts.buffer.features}
    assert compared <= spy.trained | waiting | held


def test_champion_is_scored_as_served(package: Package) -> None:
    """What the champion is credited with is what was answered, not what the model of today
    would say: answers all wrong in the log are accuracy 0."""
    rig = Rig(package)
    rows, labels = drifting(clean=BATCH, drifted=0)
    asked = PredictionRecord(b"k" * 12, rows, (1 - labels).astype(np.float32), 1, 1.0, 1)
    rig.take((asked, None))
    for i, label in enumerate(labels):
        rig.take((FeedbackRecord(asked.request, i, int(label), 2.0, after=1, seq=i + 1), asked))
    assert rig.status()["champion"]["accuracy"] == 0.0
    assert rig.status()["shadow"]["accuracy"] > 0.9


def test_observe(package: Package, healed: Live) -> None:
    """In observe mode everything happens but the promotion: heals, snapshots, a note of what
    would have been promoted; the clean adapter serves on."""
    rig = live(package, mode="observe").rig
    assert rig.done.promotions == []
    assert rig.status()["serving"]["version"] == 1
    assert rig.status()["heals"] > 0
    assert "would_promote" in rig.kinds()
    assert "promote" not in rig.kinds()
    first = next(e for e in rig.done.events if e.kind == "would_promote")
    assert first.detail["version"] == healed.rig.done.promotions[0].version


def test_an_operator_may_observe(package: Package) -> None:
    """Told to observe, it heals and says what it would promote; told to resume, it promotes.
    The word holds over a restart; what the settings hold back no word lets go."""
    told, rows = Live(Rig(package)), drifting()
    told.rig.pipeline.apply_command("observe")
    told.send(*rows)
    assert told.rig.status()["heals"] > 0
    assert told.rig.status()["mode"] == "observe"
    assert told.rig.done.promotions == []
    assert "would_promote" in told.rig.kinds()
    again = Rig(package)
    restore(again.pipeline.parts, dump(told.rig.pipeline.parts))
    assert again.pipeline.parts.controls.observing
    told.rig.pipeline.apply_command("resume")
    told.send(*rows)
    assert [p.kind for p in told.rig.done.promotions].count(PromotionKind.PROMOTE)
    bound = Rig(package, mode="observe")
    bound.pipeline.apply_command("resume")
    assert bound.pipeline.parts.controls.observing


def test_figures_for_charts(healed: Live) -> None:
    """A labelled batch is measured once, with what was served, the shadow and the challenger."""
    scored = [m for m in healed.rig.done.measurements if m.scored]
    assert [m.labelled_batch for m in scored] == [*range(1, len(scored) + 1)]
    last = scored[-1].figures
    assert last["accuracy"] > last["shadow_accuracy"]
    assert last["lift"] == pytest.approx(last["accuracy"] - last["shadow_accuracy"])
    assert 0 <= last["challenger_accuracy"] <= 1
    assert last["lift_low"] <= last["lift_mean"] <= last["lift_high"]
    assert last["state"] in set(State)


def test_pause(package: Package) -> None:
    """While paused signals and figures go on and no heal, promotion or rollback happens;
    resumed, healing goes on."""
    rig = Rig(package)
    rig.pipeline.parts.controls.paused = True
    ran = Live(rig)
    ran.send(*drifting())
    status = rig.status()
    assert (status["heals"], status["promotions"], rig.done.promotions) == (0, 0, [])
    assert status["paused"]
    assert status["state"] == "DRIFTING"
    assert status["labels"]["joined"] == 950
    rig.pipeline.parts.controls.paused = False
    ran.send(*drifting(seed=1, clean=0, drifted=600))
    assert rig.status()["heals"] > 0
    assert rig.done.promotions


def test_calm(package: Package) -> None:
    """On a stream that does not drift nothing is promoted and the state stays HEALTHY."""
    rig = Rig(package)
    Live(rig).send(*drifting(clean=600, drifted=0))
    assert rig.pipeline.parts.shown.now is State.HEALTHY
    assert rig.done.promotions == []


# -- labels ---------------------------------------------------------------------------------


def test_correction(package: Package) -> None:
    """A corrected label replaces the old one where heals train, in the buffer and in the batch
    that is still open; the row is not counted again."""
    rig = Rig(package)
    asked, labels = feed(rig)
    before = rig.status()
    correct(rig, asked, 3, 1 - labels[3])
    correct(rig, asked, BATCH + 2, 1 - labels[BATCH + 2])
    kept = rig.pipeline.parts.buffer.rows()
    assert kept.labels.tolist() == [1 - v if i == 3 else v for i, v in enumerate(labels[:BATCH])]
    assert np.array_equal(kept.features, asked.features[:BATCH])
    assert [r.label for r in rig.pipeline.parts.batches.open] == [
        1 - v if i == 2 else v for i, v in enumerate(labels[BATCH:])
    ]
    after = rig.status()
    assert after["labels"]["corrected"] == 2
    assert after["labels"]["joined"] == before["labels"]["joined"] == BATCH + 10
    assert after["champion"] == before["champion"]


def test_correction_of_a_waiting_label(package: Package) -> None:
    """A label and its correction that both came before their prediction join as one row with
    the corrected label."""
    rig = Rig(package)
    table = article_rows(2, 0.0, np.random.default_rng(3))
    asked = PredictionRecord(b"k" * 12, table.rows, package.baseline(table.rows), 1, 1.0, 1)
    rig.take((FeedbackRecord(asked.request, 0, 0, 2.0, seq=1), None))
    rig.take((FeedbackRecord(asked.request, 0, 1, 2.0, corrects=True, seq=2), asked))
    assert rig.status()["labels"]["waiting"] == 2
    rig.take((asked, None))
    assert [r.label for r in rig.pipeline.parts.batches.open] == [1]
    assert rig.status()["labels"]["waiting"] == 0


def test_labels_of_an_earlier_package(package: Package) -> None:
    """A label of a row that another package answered is counted as unmatched, not learned."""
    rig = Rig(package)
    rig.pipeline.parts.cursors.start_from = 1
    feed(rig, 5)
    assert rig.status()["labels"]["unmatched"] == 5
    assert rig.status()["labels"]["joined"] == 0


def test_rows_with_features(package: Package) -> None:
    """Rows that come with their labels and no id are learned from and count as the model of
    the moment answers them."""
    rig = Rig(package)
    rows, labels = drifting()
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        key = (i + 1).to_bytes(12, "big")
        given = FeedbackRecord(key, 0, int(label), 1.0, features=row, seq=i + 1)
        rig.take((given, None))
    status = rig.status()
    assert status["labels"]["joined"] == len(rows)
    assert status["labels"]["delay_seconds"] is None
    assert status["promotions"] >= 1
    last = status["last"]
    assert last["champion"]["accuracy"] > last["shadow"]["accuracy"] + 0.2


def test_heal_now(package: Package) -> None:
    """An operator's heal trains at once on what is there, also while paused; without labels it
    says so."""
    rig = Rig(package, recipe="replay")
    assert rig.pipeline.heal_now() is False
    rig.collect()
    assert rig.kinds() == ["heal_skipped"]
    feed(rig)
    rig.pipeline.parts.controls.paused = True
    assert rig.pipeline.heal_now() is True
    rig.collect()
    heal = rig.done.events[-1]
    assert (heal.kind, heal.detail["rows"], heal.detail["heal"]) == ("heal", BATCH, 2)


# -- health, rollback, states ------------------------------------------------------------------


def test_states(healed: Live) -> None:
    """HEALTHY until a signal, DRIFTING while it lasts, HEALING shown while a heal trains."""
    kinds = healed.rig.kinds()
    assert kinds.index("drifting") < kinds.index("promote")
    assert set(healed.rig.announced) == {State.HEALING}
    assert len(healed.rig.announced) == healed.rig.status()["heals"]
    assert healed.rig.pipeline.parts.shown.now is State.DRIFTING


def test_rollback_withheld(package: Package) -> None:
    """When the stream gets harder and nothing kept does better on the same rows, nothing is
    undone, and an event says why."""
    ran = live(package, health="article", replay_rate=0.05)
    p = ran.rig.pipeline
    serving = p.parts.lineage.serving
    assert serving is not None
    known = p.parts.history.snapshots
    p.parts.history.snapshots = {v: known[v] for v in known if v in (1, serving.version)}
    p.healer.heal = lambda *_: None  # type: ignore[method-assign]
    p.parts.line.trial = None
    rows, labels = drifting(seed=2, clean=0, drifted=600)
    noise = np.random.default_rng(0).random(len(rows)) < 0.3
    before = len(ran.rig.moves())
    ran.send(rows, np.where(noise, 1 - labels, labels))
    withheld = [e for e in ran.rig.done.events if e.kind == "rollback_withheld"]
    assert withheld
    assert "nothing kept does better" in withheld[0].detail["reason"]
    assert ran.rig.moves()[before:] == []
    assert p.parts.lineage.serving is not None
    assert p.parts.lineage.serving.heal == serving.heal


def test_what_served_before_a_heal_is_kept(
    package: Package, caplog: pytest.LogCaptureFixture
) -> None:
    """The snapshot before a heal is what serves, also where the kept one is damaged by then."""
    ran = live(package)
    p, memory = ran.rig.pipeline.parts, ran.rig.memory
    assert p.lineage.serving is not None
    memory.damaged.add(p.lineage.serving.tag)
    serving, heals = p.lineage.champion.adapter_state(), p.scoreboard.counts.heals
    ran.rig.pipeline.heal_now()
    ran.rig.collect()
    before = [s for s in ran.rig.done.snapshots.values() if s.phase is Phase.PRE][-1]
    assert before.heal == heals + 1
    assert bits(memory.kept[before.tag]) == bits(serving)
    assert "cannot be copied, and is written anew" in caplog.text


def promoted_badly(package: Package, **more: Any) -> Live:
    """A healed stream, then an operator makes a snapshot serve that is wrong about everything,
    while good ones are kept; healing is held back so that only a rollback can help."""
    ran = live(package, heal_lr=0.003, health="article", **more)
    p, memory = ran.rig.pipeline, ran.rig.memory
    good = p.parts.lineage.serving
    assert good is not None
    assert good.phase is Phase.POST
    bad = {k: torch.zeros_like(v) for k, v in package.model.layer_state().items()}
    with torch.no_grad():
        bad["scale"] += 1.0
        bad["adapter.2.bias"] += 40.0 * package.model.head[0].weight[0].sign()  # all is fraud
    version = p.parts.history.next_version
    p.parts.history.next_version += 1
    new = NewSnapshot(version, Phase.POST, 99, p.parts.scoreboard.counts.labelled_batches, "bad")
    snapshot = memory.save(new, bad)
    p.parts.history.snapshots[version] = snapshot
    p.adopt(Promotion(PromotionKind.PROMOTE, version, snapshot.tag, "ab", "bad", 0.0, seq=999))
    p.parts.rollback.health.begin(0.95, 0.9)
    p.parts.line.trial = None
    p.healer.try_challenger = lambda *_: None  # type: ignore[method-assign]
    return ran


def test_rollback(package: Package) -> None:
    """When what serves falls below its baseline, the kept snapshot that does best on the very
    same rows serves again; the promotion log says from which, to which and why."""
    ran = promoted_badly(package, thresholds=Thresholds(rollback_f1_drop=1.0))
    bad = ran.rig.pipeline.parts.lineage.serving
    before = len(ran.rig.done.promotions)
    ran.send(*drifting(seed=3, clean=0, drifted=500))
    back = ran.rig.done.promotions[before]
    assert bad is not None
    assert back.kind is PromotionKind.ROLLBACK
    assert back.evidence["from_version"] == bad.version
    assert back.evidence["thresholds"]["rollback_f1_drop"] == 1.0
    assert "accuracy" in back.reason
    assert "below its baseline" in back.reason
    assert ran.rig.status()["rollbacks"] == 1
    event = next(e for e in ran.rig.done.events if e.kind == "rollback")
    assert (event.detail["version"], event.detail["from"]) == (back.version, bad.version)
    rows, labels = drifting(seed=4, clean=0, drifted=300)
    values = {}
    for s in ran.rig.pipeline.parts.history.snapshots.values():
        if s.phase is Phase.POST and s.version <= max(bad.version, back.version):
            with torch.no_grad():
                answers = ran.rig.memory.load(s.tag, "").forward(torch.from_numpy(rows)).numpy()
            values[s.version] = Scores.of(answers, labels).accuracy
    assert values[back.version] >= max(values.values()) - 0.05
    assert values[back.version] > values[bad.version] + 0.3


def test_rollback_state(package: Package) -> None:
    """After a rollback the state is ROLLED_BACK until the next batch of the signals."""
    ran = promoted_badly(package, thresholds=Thresholds(rollback_f1_drop=1.0))
    rows, labels = drifting(seed=3, clean=0, drifted=500)
    for at in range(0, len(rows), BATCH):
        ran.send(rows[at : at + BATCH], labels[at : at + BATCH])
        if ran.rig.status()["rollbacks"]:
            break
    assert ran.rig.pipeline.parts.shown.now is State.ROLLED_BACK
    ran.send(rows[:BATCH], labels[:BATCH])
    assert ran.rig.pipeline.parts.shown.now is State.DRIFTING


def test_rollback_past_damage(package: Package) -> None:
    """A kept snapshot that no longer verifies is named in an event and passed over."""
    ran = promoted_badly(package)
    history = ran.rig.pipeline.parts.history.snapshots.values()
    whole = [s for s in history if s.phase is Phase.POST]
    first = ran.rig.done.promotions[0].version
    ran.rig.memory.damaged |= {s.tag for s in whole if s.version not in (first, whole[-1].version)}
    before = len(ran.rig.done.promotions)
    ran.send(*drifting(seed=3, clean=0, drifted=500))
    assert ran.rig.done.promotions[before].version == first
    assert "refused" in ran.rig.kinds()


def test_damaged_trial(package: Package) -> None:
    """Where the snapshot on trial is found to be damaged, its trial goes on with a new one."""
    ran = Live(Rig(package, recipe="replay", advance_rows=100))
    ran.send(*drifting(drifted=1200))
    p = ran.rig.pipeline
    assert p.parts.line.trial is not None
    assert p.parts.line.trial.fresh
    lost = p.parts.history.snapshots[p.parts.line.trial.version]
    ran.rig.memory.damaged.add(lost.tag)
    assert p.parts.history.load_known(lost) is None
    p.parts.line.gate.proven, p.parts.line.gate.process = True, EProcess(count=1000, total=500.0)
    before = len(ran.rig.done.promotions)
    ran.send(*drifting(seed=3, clean=0, drifted=500))
    later = ran.rig.done.promotions[before:]
    assert later
    assert lost.version not in {q.version for q in later}


def test_paused_does_not_roll_back(package: Package) -> None:
    """A pause holds rollbacks back too."""
    ran = promoted_badly(package)
    ran.rig.pipeline.parts.controls.paused = True
    before = len(ran.rig.done.promotions)
    ran.send(*drifting(seed=3, clean=0, drifted=500))
    assert ran.rig.done.promotions[before:] == []


def test_operators_rollback(package: Package) -> None:
    """After an operator's rollback the pipeline serves what he chose, starts a new challenger
    from it and shows ROLLED_BACK."""
    ran = live(package)
    p = ran.rig.pipeline
    p.adopt(Promotion(PromotionKind.ROLLBACK, 1, "m:1", "ab", "asked", 0.0, by="operator", seq=50))
    assert p.status()["serving"]["version"] == 1
    assert p.parts.shown.now is State.ROLLED_BACK
    assert p.parts.line.trial is None
    assert bits(p.parts.line.challenger.model.adapter_state()) == bits(
        p.parts.lineage.champion.adapter_state()
    )
    assert p.status()["rollbacks"] == 1


def test_refused_heal(package: Package) -> None:
    """A heal that ends in weights that are not finite is refused: an event says so, nothing of
    it serves, and the next heal starts from the champion."""

    class Burns:
        name = "burns"

        def heal(self, challenger: Challenger, *_: Any) -> dict[str, float]:
            with torch.no_grad():
                challenger.answers.reflexive.scale.fill_(float("nan"))
            return {"total": 0.0}

    rig = Rig(package)
    rig.pipeline.healer._recipe = Burns()
    Live(rig).send(*drifting())
    assert "refused" in rig.kinds()
    assert rig.done.promotions == []
    assert not any(s.phase is Phase.POST for s in rig.pipeline.parts.history.snapshots.values())
    challenger = rig.pipeline.parts.line.challenger.answers.adapter_state()
    assert bits(challenger) == bits(rig.pipeline.parts.lineage.champion.adapter_state())


def test_gate_always(package: Package) -> None:
    """Without a gate every heal serves at once, as in the article."""
    rig = live(package, gate="always").rig
    promoted = [p for p in rig.done.promotions if p.kind is PromotionKind.PROMOTE]
    assert len(promoted) == rig.status()["heals"] > 3


# -- the bound on snapshots ------------------------------------------------------------------


@pytest.mark.parametrize("kept", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (6, 9))])
def test_surplus(package: Package, kept: int) -> None:
    """Never more snapshots than allowed are left; the clean one, the best, the serving one, the
    one on trial and the newest stay, and what went is named once."""
    rig = Rig(package, snapshots_kept=kept)
    ran = Live(rig)
    gone: list[int] = []
    rows, labels = drifting()
    for at in range(0, len(rows), BATCH):
        ran.send(rows[at : at + BATCH], labels[at : at + BATCH])
        p = rig.pipeline
        must = {1, p.parts.history.best().version, p.parts.lineage.serving.version}  # type: ignore[union-attr]
        must |= {p.parts.line.trial.version} if p.parts.line.trial else set()
        newest = max(p.parts.history.snapshots)
        gone += [s.version for s in p.surplus()]
        assert must <= p.parts.history.snapshots.keys()
        assert len(p.parts.history.snapshots) <= kept
        if kept > len(must):
            assert newest in p.parts.history.snapshots
    assert len(gone) == len(set(gone)) > 3
    assert set(gone).isdisjoint(rig.pipeline.parts.history.snapshots)


@pytest.mark.slow
def test_home_stays(package: Package) -> None:
    """What a line began from is never forgotten, however many heals come after: a regret goes
    back to it."""
    ran = live(package, snapshots_kept=5)
    p = ran.rig.pipeline
    home = p.parts.lineage.serving
    assert home is not None
    p.adopt(Promotion(PromotionKind.ROLLBACK, home.version, home.tag, "ab", "asked", 0.0, seq=50))
    p.parts.history.measure(home.version, Scores(0, 0, 10_000, 10_000))  # by no means the best
    for part in range(4):
        ran.send(*drifting(seed=part, clean=300, drifted=0))
        p.surplus()
        assert home.version in p.parts.history.snapshots
        assert len(p.parts.history.snapshots) <= 5
    assert p.parts.history.next_version > home.version + 5


def test_best_is_on_later_labels(healed: Live) -> None:
    """A snapshot's figures come from labels after its training alone; one that has seen none
    has none, and cannot be the best."""
    history = healed.rig.pipeline.parts.history.snapshots
    for s in history.values():
        assert (s.f1 is None) == (s.rows == 0)
    best = healed.rig.pipeline.parts.history.best()
    assert best is not None
    measured = [s.f1 for s in history.values() if s.phase is Phase.POST and s.f1 is not None]
    assert best.f1 == max(measured)


# -- sources, operating point, limits --------------------------------------------------------


def sourced(ran: Live, rows: NDArray[np.float32], labels: NDArray[Any], liars: set[int]) -> None:
    """Send rows whose labels come at once from ten sources in turn; liars turn theirs round."""
    for at in range(0, len(rows), BATCH):
        part = rows[at : at + BATCH]
        ran.requests += 1
        p = ran.rig.pipeline
        with torch.no_grad():
            answers = p.parts.lineage.champion(torch.from_numpy(part)).numpy()
        asked = PredictionRecord(
            ran.requests.to_bytes(12, "big"), part, answers, p.parts.lineage.serving.version,  # type: ignore[union-attr]
            float(ran.requests), ran.requests,
        )  # fmt: skip
        ran._take(asked, None)
        for i, label in enumerate(labels[at : at + BATCH]):
            said = 1 - int(label) if i % 10 in liars else int(label)
            ran.label(asked, i, said, source=f"s{i % 10}")


def test_liar_is_quarantined(package: Package) -> None:
    """A source whose labels contradict the others' is quarantined with the reason, its rows
    leave the buffer, and honest sources stay."""
    ran = Live(Rig(package))
    sourced(ran, *drifting(clean=1500, drifted=0), {3})
    events = [e for e in ran.rig.done.events if e.kind == "quarantine"]
    assert [e.detail["source"] for e in events] == ["s3"]
    assert "contradict" in events[0].detail["reason"]
    assert events[0].detail["rows"] > 0
    assert "s3" not in ran.rig.pipeline.parts.buffer.sources
    status = ran.rig.status()
    assert [n for n, s in status["sources"].items() if s["quarantined"]] == ["s3"]
    assert status["labels"]["refused"] > 0


def test_honest_sources_stay(package: Package) -> None:
    """Under drift every source's labels look wrong to the model alike, and none is quarantined."""
    ran = Live(Rig(package))
    sourced(ran, *drifting(), set())
    assert "quarantine" not in ran.rig.kinds()
    assert ran.rig.status()["promotions"] >= 1


def test_quota(package: Package) -> None:
    """A source teaches no more than its quota of each 1,000 labels; what is over is counted."""
    ran = Live(Rig(package, source_quota=40))
    sourced(ran, *drifting(clean=600, drifted=0), set())
    status = ran.rig.status()
    assert all(s["over_quota"] == 20 for s in status["sources"].values())
    assert len(ran.rig.pipeline.parts.buffer) <= 10 * 40


def test_forget(package: Package) -> None:
    """What a source taught is removed on request, and the next challenger begins without it."""
    ran = Live(Rig(package, recipe="replay"))
    sourced(ran, *drifting(clean=300, drifted=0), set())
    p = ran.rig.pipeline
    held = len(p.parts.buffer)
    assert p.forget("s4", "asked") == held // 10
    assert bits(p.parts.line.challenger.model.adapter_state()) == bits(
        package.model.adapter_state()
    )
    assert p.forget("nobody", "asked") == 0


def test_reference_floor(package: Package) -> None:
    """A challenger that is worthless on the reference set is not promoted, whatever labels say."""
    rig = Rig(package, reference_floor=0.5)
    rows, labels = drifting(clean=900, drifted=0)
    Live(rig).send(rows, 1 - labels)
    free = Rig(package, reference_floor=0.0)
    Live(free).send(rows, 1 - labels)
    lowest = {r: min(_on_the_reference_set(r), default=1.0) for r in (rig, free)}
    assert lowest[rig] >= 0.5 > lowest[free]


def _on_the_reference_set(rig: Rig) -> list[float]:
    """Accuracy of everything that was promoted."""
    rows, labels = rig.package.reference_rows, rig.package.reference_labels
    models = [rig.memory.load(promotion.tag, "") for promotion in rig.done.promotions]
    with torch.no_grad():
        answers = [model(torch.from_numpy(rows)).numpy() for model in models]
    return [Scores.of(said, labels).accuracy for said in answers]


def test_costs_move_the_threshold(package: Package) -> None:
    """When a miss costs more than a false alarm more rows are flagged, and the cost is lower
    than with the default threshold."""
    costs = Thresholds(miss_cost=2000, alarm_cost=200)
    rig = Rig(package, thresholds=costs)
    Live(rig).send(*drifting())
    point = rig.status()["operating_point"]
    assert point["kind"] == "costs"
    table = article_rows(5000, 2.2, np.random.default_rng(8))
    with torch.no_grad():
        answers = rig.pipeline.parts.lineage.champion(torch.from_numpy(table.rows)).numpy()
    at = {t: cost_of(Scores.of(answers, table.labels, t), costs) for t in (point["threshold"], 0.5)}
    assert at[point["threshold"]] < at[0.5]
    assert any(e.kind == "operating_point" for e in rig.done.events)


def test_capacity(package: Package) -> None:
    """With a capacity no more rows than that are flagged, once the world is known again."""
    rig = Rig(package, thresholds=Thresholds(capacity=50))
    Live(rig).send(*drifting(drifted=1500))
    point = rig.status()["operating_point"]
    table = article_rows(5000, 2.2, np.random.default_rng(8))
    with torch.no_grad():
        answers = rig.pipeline.parts.lineage.champion(torch.from_numpy(table.rows)).numpy()
    assert 0.0 < (answers >= point["threshold"]).mean() < 0.09


def test_no_labels(package: Package) -> None:
    """With no label at all only the share of flags is held, marked unverified; once labels
    disagree it is off again."""
    ran = Live(Rig(package), delay=10**9)
    rows, labels = drifting(drifted=1200)
    ran.send(rows, labels)
    status = ran.rig.status()
    assert (status["heals"], status["promotions"]) == (0, 0)
    assert status["operating_point"]["kind"] == "unverified"
    assert status["operating_point"]["verified"] is False
    flagged = (package.baseline(rows[-600:]) >= status["operating_point"]["threshold"]).mean()
    assert flagged == pytest.approx(package.info.flagged_rate, abs=0.03)
    plain = package.baseline(rows[-BATCH:]) >= 0.5
    ran.delay = len(ran.owed) - BATCH
    while len(ran.owed) > ran.delay:  # labels that call every flag of the frozen model right
        asked, row, _ = ran.owed.pop()
        ran.label(asked, row, int(asked.probabilities[row] >= 0.5))
    assert plain.any()
    assert ran.rig.status()["operating_point"]["kind"] == "default"


def test_estimate(package: Package) -> None:
    """Accuracy is estimated without labels; what it was off by is shown once labels come."""
    rig = Rig(package)
    ran = Live(rig)
    ran.send(*drifting(clean=600, drifted=0))
    calm = rig.status()["estimate"]
    assert calm["accuracy"] == pytest.approx(package.info.accuracy, abs=0.06)
    assert abs(calm["off_by"]) < 0.05
    assert calm["checks"] > 5


def test_an_estimate_that_labels_contradict(package: Package) -> None:
    """It is not shown, until labels agree with it again; a checkpoint keeps that."""
    rig = Rig(package)
    ran = Live(rig, delay=0)
    rows, labels = drifting(clean=400, drifted=0)
    ran.send(rows, 1 - labels)
    told = rig.status()["estimate"]
    assert (told["accuracy"], told["contradicted"]) == (None, True)
    estimate = rig.pipeline.parts.drift.estimate
    estimate.restore(estimate.state())
    assert estimate.contradicted
    for _ in range(8):
        estimate.checked(estimate.accuracy)
    assert rig.status()["estimate"]["accuracy"] == estimate.accuracy


def test_majority(package: Package) -> None:
    """What always answering the commonest class would reach stands beside the accuracy, on the same
    labels; a checkpoint of an earlier release counts on from nothing."""
    rig = Rig(package)
    assert rig.status()["majority"] is None
    rows, labels = drifting(clean=300, drifted=0)
    Live(rig, delay=0).send(rows, 1 - labels)
    served = rig.status()["champion"]
    frauds, others = served["tp"] + served["fn"], served["tn"] + served["fp"]
    assert frauds > others > 0
    assert rig.status()["majority"] == frauds / (frauds + others)
    old = rig.pipeline.parts.scoreboard.state()
    del old["counts"]["classes"]
    rig.pipeline.parts.scoreboard.restore(old)
    assert rig.status()["majority"] is None


def test_retrain_needed(package: Package) -> None:
    """When the best challenger stays far from what is asked the state says so, once, and the
    buffer is handed out."""
    rig = Rig(package, retrain_batches=6)
    rows, _ = drifting(clean=0, drifted=900)
    noise = np.random.default_rng(0).integers(0, 2, len(rows))
    exports = []
    collect = rig.pipeline.collect

    def keep() -> Outcome:
        done = collect()
        exports.append(done.export)
        return done

    rig.pipeline.collect = keep  # type: ignore[method-assign]
    Live(rig).send(rows, noise)
    assert rig.pipeline.parts.shown.now is State.RETRAIN_NEEDED
    assert rig.kinds().count("retrain_needed") == 1
    assert exports.count(True) == 1
    assert "asked for" in rig.status()["retrain"]


def one_in_twenty(package: Package, pace: float) -> dict[str, Any]:
    """What comes of it when one row in twenty is labelled."""
    ran = Live(Rig(package, recipe="replay"), delay=10**9)
    ran.pace = pace
    rows, labels = drifting(clean=0, drifted=4000)
    for at in range(0, len(rows), BATCH):
        ran.send(rows[at : at + BATCH], labels[at : at + BATCH])
        for asked, row, label in ran.owed[::20]:
            ran.label(asked, row, label)
        ran.owed.clear()
    return ran.rig.status()


def test_few_labels_that_come_fast(package: Package) -> None:
    """Under many requests a second, labels are few but not long in coming: full batches are waited
    for, or heals would take longer than labels do."""
    status = one_in_twenty(package, pace=0.01)
    assert status["labelled_batches"] == status["labels"]["joined"] // BATCH


@pytest.mark.slow
def test_few_labels(package: Package) -> None:
    """When one row in twenty is labelled, a round's worth of labels is enough to heal on."""
    status = one_in_twenty(package, pace=1.0)
    assert status["labelled_batches"] > status["labels"]["joined"] // BATCH
    assert status["labels"]["joined"] < 300
    assert status["promotions"] >= 1
    assert status["last"]["champion"]["accuracy"] > status["last"]["shadow"]["accuracy"]


def test_regret_takes_a_line_back(package: Package) -> None:
    """When what a line serves turns out worse than the model that it replaced, that one serves
    again, and the promotion log says why."""
    ran = live(package)
    p = ran.rig.pipeline
    assert p.parts.lineage.serving is not None
    assert p.parts.lineage.serving.version != 1
    p.parts.controls.paused, before = False, len(ran.rig.moves())
    taken_back(ran)
    back = ran.rig.moves()[before]
    assert (back.kind, back.version) == (PromotionKind.ROLLBACK, 1)
    assert "than the model it replaced" in back.reason
    assert ran.rig.status()["rollbacks"] == 1
