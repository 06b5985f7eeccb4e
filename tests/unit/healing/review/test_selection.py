"""Which rows people are asked about, and what their labels stand for."""

from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.core.review.asked_row import DAY, AskedRow
from bento_selfheal.healing.evidence.gate import Gate
from bento_selfheal.healing.labels.join import JoinedRow, joined_row
from bento_selfheal.healing.labels.reviewed import Reviewed
from bento_selfheal.healing.review import selection as choosing
from bento_selfheal.healing.review.contest import Contest
from bento_selfheal.healing.review.purse import FASTEST, SLOWEST, Purse
from bento_selfheal.healing.review.selection import AT_RANDOM, REMEMBERED, Selection
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import most_apart, row_losses
from bento_selfheal.scoring.review import Review
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.demo import demo_stream

ROWS, PER_DAY = 100, 10_000
SECONDS = 86_400 * ROWS / PER_DAY
BUDGET = 500
QUEUE = Settings(review="queue", review_budget=BUDGET)


def request(number: int, seed: int = 1, keys: bytes = b"") -> PredictionRecord:
    """100 rows of 10,000 a day; the first column is what the champion says, the second what the
    challenger says: one row in ten is in doubt, and one in ten in dispute."""
    draw = np.random.default_rng([seed, number])
    features = np.full((ROWS, 2), 0.02, dtype=np.float32)
    kind = draw.random(ROWS)
    features[kind < 0.1] = 0.5
    features[kind > 0.9, 1] = 0.98
    key = (seed * 2**40 + number).to_bytes(12, "big")
    said = np.ascontiguousarray(features[:, 0])
    return PredictionRecord(key, features, said, 1, number * SECONDS, seq=number, keys=keys)


def challenger(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows[:, 1])


CONTEST = Contest(challenger, Thresholds())


def chosen(
    selection: Selection, numbers: range, seed: int = 1, contest: Contest = CONTEST
) -> list[AskedRow]:
    return [one for n in numbers for one in selection.choose(request(n, seed), contest)]


def labelled(selection: Selection, entry: PredictionRecord, row: int, label: int = 1) -> JoinedRow:
    given = FeedbackRecord(entry.request, row, label, entry.time, after=entry.seq, seq=1)
    return selection.weigh(joined_row(given, entry.features[row], entry))


def test_it_asks_for_what_tells_most() -> None:
    """Rows in dispute are asked for many times as often as others, those in doubt of both no more
    often, all together as many as the budget has, in no turn that depends on what they are; each
    says why."""
    asked = chosen(Selection(QUEUE), range(1, 401))[100:]
    days = (400 * ROWS - 2000) / PER_DAY
    assert len(asked) == pytest.approx(BUDGET * days, rel=0.15)
    why = [one.why for one in asked]
    assert why.count("the challenger disagrees") / 0.1 > 10 * why.count("drawn by chance") / 0.9
    for reason in set(why):
        turns = [one.turn for one in asked if one.why == reason]
        assert np.mean(turns) == pytest.approx(0.5, abs=0.12)
    assert min(one.chance for one in asked) >= AT_RANDOM * SLOWEST * BUDGET / PER_DAY * 0.95


def test_figures_stay_true() -> None:
    """Weighted by the chances, what is asked for speaks for all rows, also where a desk gets no
    further than the first half of the queue."""
    truth, whole, first = [], [], []
    for seed in range(1, 9):
        selection = Selection(QUEUE)
        asked = chosen(selection, range(1, 201), seed)
        entries = {request(n, seed).request: request(n, seed) for n in range(1, 201)}
        rows = [labelled(selection, entries[one.request], one.row) for one in asked]
        disputed = np.asarray([row.features[1] > 0.9 for row in rows])
        weights = np.asarray([row.weight for row in rows])
        half = np.argsort([one.turn for one in asked])[: len(asked) // 2]
        truth.append(np.mean([(e.features[:, 1] > 0.9).mean() for e in entries.values()]))
        whole.append((disputed * weights).sum() / weights.sum())
        first.append((disputed * weights)[half].sum() / weights[half].sum())
        assert disputed.mean() > 4 * truth[-1]
    assert np.mean(whole) == pytest.approx(np.mean(truth), abs=0.01)
    assert np.mean(first) == pytest.approx(np.mean(truth), abs=0.015)


def test_labels_that_nobody_asked_for_count_nowhere() -> None:
    """They have no weight; rows from before there was a queue count as ever."""
    selection, entry = Selection(QUEUE), request(5)
    before = replace(request(2), seq=2)
    asked = {one.row for one in selection.choose(entry, CONTEST)}
    other = next(row for row in range(ROWS) if row not in asked)
    assert labelled(selection, entry, other).weight == 0
    assert labelled(selection, entry, min(asked)).weight > 1
    assert labelled(selection, before, 0).weight == 1
    reviewed = Reviewed.of([labelled(selection, entry, row) for row in (min(asked), other)])
    assert reviewed.proves.tolist() == [True, False]


def test_what_was_asked_before_is_not_known_any_more() -> None:
    """Where the runner begins anew, or a request was sent again, a label counts nowhere: its row
    may have been chosen for what it is."""
    selection = Selection(QUEUE)
    selection.begin_anew()
    before = request(3)
    assert labelled(selection, before, 0).weight == 0
    selection.choose(request(5), CONTEST)
    assert labelled(selection, before, 0).weight == 0
    again = replace(request(6), retried=True)
    assert labelled(selection, again, 0).weight == 0
    plain = Selection(Settings())
    plain.begin_anew()
    assert labelled(plain, before, 0).weight == 1


def test_a_key_that_is_asked_again() -> None:
    """A label counts for the newest row of its key, and so only if that row was asked for."""
    keys = b"".join(f"{i:016d}".encode() for i in range(ROWS))
    selection, first, again = Selection(QUEUE), request(1, keys=keys), request(2, keys=keys)
    rows = {one.row for one in selection.choose(first, CONTEST)}
    more = {one.row for one in selection.choose(again, CONTEST)}
    only_first = min(rows - more)
    assert labelled(selection, again, only_first).weight == 0
    assert labelled(selection, first, only_first).weight > 1
    assert labelled(selection, again, min(more)).weight > 1


def test_with_room_for_all_every_row_is_asked_for() -> None:
    """Where people can label more rows than come, they are asked for every one."""
    selection = Selection(Settings(review="queue", review_budget=100_000))
    assert len(chosen(selection, range(1, 21))) == 20 * ROWS


def test_a_checkpoint_goes_on_the_same() -> None:
    """Restored from its state, it asks for the same rows with the same chances and knows those that
    it asked for; it remembers no more than so many."""
    one, other = Selection(QUEUE), Selection(QUEUE)
    before = chosen(one, range(1, 51))
    state = one.state()
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    facts = {k: v for k, v in state.items() if k not in tensors}
    other.restore({**json.loads(json.dumps(facts)), **tensors})
    assert chosen(one, range(51, 101)) == chosen(other, range(51, 101))
    entries = {request(n).request: request(n) for n in range(1, 51)}
    for row in before[::25]:
        entry = entries[row.request]
        again, weight = labelled(other, entry, row.row), labelled(one, entry, row.row)
        assert again.stands_for == weight.stands_for
    older = {k: v for k, v in facts.items() if k not in ("purse", "share")}
    other.restore({**older, "keys": state["keys"], "rows": state["rows"][:, :3]})
    old = labelled(other, entries[before[0].request], before[0].row)
    assert old.likeliest == old.explored
    everything = Selection(Settings(review="queue", review_budget=100_000))
    chosen(everything, range(1, REMEMBERED // ROWS + 10))
    assert len(everything.state()["keys"]) == REMEMBERED


def test_the_policies_have_the_same_queue() -> None:
    """What `flagged` and `capacity` ask for comes into the queue, with the chances of the policy,
    those that were drawn in no later turns than the others."""
    entry = request(1)
    review = Review(0.2, entry.features[:, 0] > 0.4)
    asked = Selection(Settings(review="flagged", review_explored=0.2)).choose(
        replace(entry, review=review.pack()), CONTEST
    )
    assert [one.row for one in asked] == np.flatnonzero(review.asked(entry.request)).tolist()
    assert {one.chance for one in asked} == {0.2, 1.0}
    turns = {c: np.mean([one.turn for one in asked if one.chance == c]) for c in (0.2, 1.0)}
    assert turns[0.2] == pytest.approx(turns[1.0], abs=0.35)
    assert all(0 <= one.turn < 1 for one in asked)


def test_a_proven_line_is_asked_about_at_random() -> None:
    """Once it has proven itself, rows in dispute are no likelier than others."""
    proven = Contest(challenger, Thresholds(), proven=True)
    asked = chosen(Selection(QUEUE), range(1, 101), contest=proven)
    entries = {request(n).request: request(n) for n in range(1, 101)}
    disputed = [entries[one.request].features[one.row, 1] > 0.9 for one in asked]
    assert np.mean(disputed) == pytest.approx(0.1, abs=0.04)


def test_a_day_has_its_budget() -> None:
    """What is asked for in a day is the budget, also where disputes grow meanwhile."""
    selection = Selection(QUEUE)
    calm = Contest(lambda rows: np.ascontiguousarray(rows[:, 0]), Thresholds())
    chosen(selection, range(1, 101))  # how many rows come in a day is known from then on
    first = chosen(selection, range(101, 151), contest=calm)
    assert len(first) + len(chosen(selection, range(151, 200))) == pytest.approx(BUDGET, rel=0.05)


def test_no_row_is_never_asked_for() -> None:
    """Where a day's budget is spent, some rows are asked for all the same, and where few rows come
    in the rest of a day not all of them are."""
    purse = Purse()
    assert purse.share(100, 1000, 0.0) == pytest.approx(0.1)
    purse.spent = 100
    assert purse.share(100, 1000, DAY / 2) == pytest.approx(0.1 * SLOWEST)
    assert purse.share(100, 1000, DAY) == pytest.approx(0.1)
    assert purse.share(100, 1000, 2 * DAY - 1) == pytest.approx(0.1 * FASTEST)


@pytest.mark.parametrize(("size", "requests"), [(1, 1000), (100, 10), (1000, 3)])
def test_a_small_budget_on_the_first_day(size: int, requests: int) -> None:
    """A burst on the first day of a service asks for the few rows that people can label, whatever
    the size of the requests; a day later the pace is known, and a burst asks for its share."""
    selection = Selection(Settings(review="queue", review_budget=5))
    draw = np.random.default_rng(7)

    def burst(day: int) -> list[AskedRow]:
        asked = []
        for n in range(requests):
            features = draw.random((size, 2)).astype(np.float32)
            said, seq = np.ascontiguousarray(features[:, 0]), day * requests + n + 1
            at = (day + 0.4) * DAY + n
            key = seq.to_bytes(12, "big")
            asked += selection.choose(
                PredictionRecord(key, features, said, 1, at, seq=seq), CONTEST
            )
        return asked

    first = burst(0)
    assert 5 <= len(first) <= 20
    assert all(0 < one.chance <= 1 for one in first)
    assert sum(len(burst(day)) for day in range(3, 13)) <= 10 * 5 * FASTEST


def contested(
    number: int, seed: int, others: float = 0.2
) -> tuple[PredictionRecord, NDArray[np.float32]]:
    """100 rows, and their labels: on one row in ten the challenger is right more often, on all
    others it is a little farther from the truth, by as much over all; by nothing where 0.375 of
    them have the second class."""
    draw = np.random.default_rng([seed, number])
    dispute = draw.random(ROWS) < 0.1
    features = np.where(dispute[:, np.newaxis], [[0.2, 0.8]], [[0.3, 0.45]]).astype(np.float32)
    labels = (draw.random(ROWS) < np.where(dispute, 0.75, others)).astype(np.float32)
    said = np.ascontiguousarray(features[:, 0])
    key = (seed * 2**40 + number).to_bytes(12, "big")
    return PredictionRecord(key, features, said, 1, number * SECONDS, seq=number), labels


def judged(
    gate: Gate, selection: Selection, number: int, seed: int, *, weigh: bool, others: float = 0.2
) -> bool:
    """Whether the gate lets the challenger through on the labels of a request that are asked
    for."""
    entry, truth = contested(number, seed, others)
    asked = selection.choose(entry, CONTEST)
    if not asked:
        return False
    rows = [labelled(selection, entry, one.row) for one in asked]
    own, costs = [one.row for one in asked], Thresholds()
    pair = entry.probabilities[own], challenger(entry.features[own])
    gains = row_losses(pair[0], truth[own], costs) - row_losses(pair[1], truth[own], costs)
    if not weigh:
        return gate.update(gains).promote
    scale = in_gate(gate, rows, most_apart(*pair, costs))
    assert np.abs(gains * scale).max() <= 1 + 1e-6
    return gate.update(gains, scale=scale).promote


def in_gate(gate: Gate, rows: list[JoinedRow], apart: NDArray[np.float64]) -> NDArray[np.float64]:
    reviewed = Reviewed.of(rows)
    assert reviewed.weights is not None
    return gate.reach.scale(reviewed.weights, reviewed.likeliest, apart)


@pytest.mark.parametrize("weigh", [True, False])
def test_null_streams(weigh: bool) -> None:
    """A challenger that is better on rows that are asked for often, and worse on the others by as
    much over all, is let through in at most alpha of the streams; without weights in most."""
    streams, through = 100 if weigh else 20, 0
    for seed in range(1, streams + 1):
        selection, gate = Selection(QUEUE), Gate(0.05, 1000)
        through += any(
            judged(gate, selection, number, seed, weigh=weigh) for number in range(1, 101)
        )
    assert through <= 0.05 * streams if weigh else through > 0.5 * streams


def test_a_better_challenger_passes_on_fewer_labels() -> None:
    """One that is better where the two disagree passes the gate on three quarters of the labels
    that random choice needs, or fewer."""
    needed = {}
    for at_random in (AT_RANDOM, 1.0):
        counts = []
        for seed in range(101, 126):
            selection, gate = Selection(QUEUE), Gate(0.05, 10_000)
            with patch.object(choosing, "AT_RANDOM", at_random):
                any(
                    judged(gate, selection, number, seed, weigh=True, others=0.375)
                    for number in range(1, 301)
                )
            counts.append(len(selection.state()["keys"]))
        needed[at_random] = np.mean(counts)
    assert needed[AT_RANDOM] < 0.75 * needed[1.0]


def test_it_heals_by_few_labels(package: Package) -> None:
    """A stream of which one row in ten is labelled heals, and what is shown is true of all rows."""
    run = Backtest(package, Settings(review="queue", review_budget=1000))
    stream = replace(demo_stream(60, 5, 3.5, 42), seconds=SECONDS)
    for _ in run.run(stream):
        pass
    status = run.pipeline.status()
    assert status["promotions"] > 0
    assert status["labels"]["joined"] < 0.2 * status["predicted_rows"]
    shown, truth = status["champion"]["accuracy"], run.correct("champion").mean()
    assert shown == pytest.approx(truth, abs=0.06)
    assert "of them are asked for" in status["review"]["known"]
    assert status["review"]["rows_a_day"] == pytest.approx(PER_DAY, rel=0.3)
