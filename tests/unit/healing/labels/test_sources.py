"""Who is quarantined, and who is not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.healing.labels.sources import MOST_SOURCES, Sources
from bento_selfheal.scoring.losses import excess_losses, row_losses, unnamed_shares

COSTS = Thresholds()


def labelled(
    names: list[str], sure: float, lying: set[str], seed: int
) -> Iterator[tuple[str, float, int]]:
    """Each source in turn labels a row of which the model says ``sure`` or its opposite, truly."""
    generator = np.random.default_rng(seed)
    for name in names:
        said = sure if generator.random() < 0.5 else 1 - sure
        truth = int(generator.random() < said)
        yield name, said, 1 - truth if name in lying else truth


def judge(sources: Sources, given: Iterator[tuple[str, float, int]]) -> list[str]:
    """Let the sources be judged label by label; who was quarantined, in order."""
    out = []
    for name, said, label in given:
        if not (name in sources.known and sources.known[name].quarantined):
            answer, truth = np.float32([said]), np.asarray([label])
            excess, unnamed = excess_losses(answer, truth, COSTS), unnamed_shares(answer, truth)
            out += [caught for caught, _ in sources.judge([name], excess, unnamed)]
    return out


def ten(rounds: int) -> list[str]:
    return [f"s{i % 10}" for i in range(10 * rounds)]


@pytest.mark.parametrize("honest", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_good_past_shields_no_lie(honest: int) -> None:
    """After 2,000 honest labels of its own a source that turns its labels round is caught within
    100 more, and its quarantine says how much higher the loss was since."""
    sources = Sources(alpha=0.001, quota=1000)
    assert judge(sources, labelled(ten(honest), 0.9, set(), 1)) == []
    assert judge(sources, labelled(ten(100), 0.9, {"s3"}, 2)) == ["s3"]
    reason = str(sources.status()["s3"]["quarantined"])
    assert "contradict" in reason
    assert float(reason.split("higher by ")[1].split()[0]) > 0.1


@pytest.mark.parametrize("liars", [3, 5])
def test_liars_do_not_shield_each_other(liars: int) -> None:
    """Where several lie alike they are all caught, up to half of ten and with 200 labels of each,
    and no honest one: they do not raise what the others are measured by."""
    sources = Sources(alpha=0.001, quota=1000)
    lying = {f"s{i}" for i in range(liars)}
    assert judge(sources, labelled(ten(100), 0.75, set(), 1)) == []
    assert set(judge(sources, labelled(ten(200), 0.75, lying, 2))) == lying


@pytest.mark.parametrize("liars", [1, 3])
def test_one_class_kept_back(liars: int) -> None:
    """Sources that call every row the first class are caught, though the model has learned from
    them to expect the second one less; the others stay."""
    sources = Sources(alpha=0.001, quota=1000)
    lying = {f"s{i}" for i in range(liars)}
    generator, caught = np.random.default_rng(4), set[str]()
    for name in ten(400):
        likely = generator.random() < 0.4
        truth = int(generator.random() < (0.9 if likely else 0.1))
        said = (0.9 if likely else 0.1) * (1 - liars / 10)
        label = 0 if name in lying else truth
        caught |= set(judge(sources, iter([(name, said, label)])))
    assert caught == lying
    assert "names class 1 more rarely" in str(sources.status()["s0"]["quarantined"])


def test_hard_rows_accuse_nobody() -> None:
    """A source whose rows are a coin's toss, and known by the model to be, stays."""
    sources = Sources(alpha=0.001, quota=1000)
    easy = labelled(ten(500), 0.95, set(), 1)
    hard = labelled(["hard"] * 5000, 0.55, set(), 2)
    mixed = (one for pair in zip(easy, hard, strict=True) for one in pair)
    assert judge(sources, mixed) == []
    assert sources.state()["known"]["hard"]["labels"] > 100


@pytest.mark.parametrize("small", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_small_sources(small: int) -> None:
    """Where all others give a label or two, whose median says little, a large honest source
    stays."""
    sources = Sources(alpha=0.001, quota=1000)
    names = [name for i in range(small) for name in ("large", f"u{i}")]
    assert judge(sources, labelled(names, 0.8, set(), 3)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_burst_accuses_nobody(seed: int) -> None:
    """Where the world turns for 160 labels, of which each source has its 40 in a row, none is
    quarantined."""
    generator = np.random.default_rng(seed)
    sources, names = Sources(alpha=0.001, quota=1000), list("abcd")

    def given(who: list[str], mean: float) -> list[tuple[str, str]]:
        losses = generator.normal(mean, 0.2, len(who))
        return sources.judge(who, losses, np.stack([losses, -losses], axis=1))

    assert given(names * 100, 0) == []
    for name in names:
        assert given([name] * 40, 0.5) == []
    assert given(names * 50, 0) == []


@pytest.mark.parametrize("costs", [Thresholds(), Thresholds(miss_cost=5000, alarm_cost=15)])
def test_excess_losses(costs: Thresholds) -> None:
    """The excess is the loss less its mean over the labels that the model believes in: 0 on
    average for true probabilities, of two classes as of three."""
    said = np.float32([0.1, 0.5, 0.8])
    mean = said * excess_losses(said, np.ones(3), costs)
    mean += (1 - said) * excess_losses(said, np.zeros(3), costs)
    assert mean == pytest.approx(np.zeros(3), abs=1e-7)
    gap = excess_losses(said, np.zeros(3), costs) - excess_losses(said, np.ones(3), costs)
    loss = row_losses(said, np.zeros(3), costs) - row_losses(said, np.ones(3), costs)
    assert gap == pytest.approx(loss)
    many = np.float32([[0.2, 0.3, 0.5]])
    each = [excess_losses(many, np.asarray([c]), costs)[0] for c in range(3)]
    assert float(np.dot(many[0], each)) == pytest.approx(0, abs=1e-7)


def test_release() -> None:
    """A source that is released is trusted again and judged anew: it stays while it is honest, and
    is caught again when it lies again."""
    sources = Sources(alpha=0.001, quota=1000)
    assert judge(sources, labelled(ten(100), 0.9, {"s3"}, 1)) == ["s3"]
    assert not sources.admits("s3")
    assert "contradict" in sources.release("s3")
    assert sources.release("s3") == sources.release("nobody") == ""
    assert sources.admits("s3")
    assert judge(sources, labelled(ten(200), 0.9, set(), 2)) == []
    assert judge(sources, labelled(ten(200), 0.9, {"s3"}, 3)) == ["s3"]


def test_invented_sources_are_bounded() -> None:
    """Of any number of invented names few are known; those that are heard on, and the quarantined
    ones, stay, and a label costs little."""
    sources = Sources(alpha=0.001, quota=1000)
    assert judge(sources, labelled(ten(100), 0.9, {"s3"}, 1)) == ["s3"]
    before = sources.status()["s1"]["labels"]
    began, count = time.process_time(), 1500
    for i in range(count):
        for name in (f"invented-{i}", "s1") if i % 100 == 0 else (f"invented-{i}",):
            sources.admits(name)
            answer = np.float32([0.5])
            excess = excess_losses(answer, np.asarray([1]), COSTS)
            sources.judge([name], excess, unnamed_shares(answer, np.asarray([1])))
    spent = (time.process_time() - began) / count
    told = sources.status()
    assert len(told) == MOST_SOURCES + 1
    assert told["s1"]["labels"] == before + count // 100
    assert told["s3"]["quarantined"]
    assert spent < 5e-3
    assert len(json.dumps(told)) < 100_000


def test_restored_sources_judge_alike() -> None:
    """From a checkpoint the sources are judged to the bit as without a restart, whichever were
    forgotten, released or quarantined."""
    sources = Sources(alpha=0.001, quota=1000)
    judge(sources, labelled(ten(60), 0.8, {"s3"}, 1))
    sources.release("s3")
    sources.refuse("s5", "asked")
    judge(sources, labelled([f"n{i}" for i in range(MOST_SOURCES)], 0.8, set(), 2))
    other = Sources(alpha=0.001, quota=1000)
    other.restore(json.loads(json.dumps(sources.state())))
    for each in (sources, other):
        judge(each, labelled(ten(60), 0.8, {"s4"}, 3))
    assert other.state() == sources.state()
