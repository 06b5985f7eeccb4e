"""Experts: they learn, forget, and go through a snapshot and a checkpoint unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.mixture import FROZEN, LAYER, REACH, Mixture, Voice, log_odds
from bento_selfheal.experts.table import BETTER_ON_INPUTS, EXPERTS, INPUT_EXPERTS, make_experts

WIDTH, CLASSES, INPUTS = 6, 3, 4
EVERYBODY = {**EXPERTS, **INPUT_EXPERTS}


def world(n: int, seed: int, turned: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Three clusters, and a frozen model that knows nothing; turned, each has the next one's
    label."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (n,), generator=draw)
    centres = torch.eye(CLASSES, WIDTH) * 3
    hidden = centres[labels] + torch.randn(n, WIDTH, generator=draw)
    return hidden, torch.zeros(n, CLASSES), (labels + 1) % CLASSES if turned else labels


def taught(name: str, n: int = 600, turned: int = 0) -> Expert:
    """An expert after some labels, the last of them of a turned world."""
    expert = teach(EVERYBODY[name](WIDTH, CLASSES), n, turned)
    return expert


def teach(expert: Expert, n: int, turned: int = 0) -> Expert:
    """The expert after some labels of what it sees."""
    for rows, seed, other in ((n, 1, False), (turned, 2, True)):
        hidden, odds, labels = world(rows, seed, other)
        for at in range(0, rows, 25):
            cut = slice(at, at + 25)
            seen, ones = expert.view(hidden[cut]), torch.ones(len(labels[cut]))
            expert.learn(seen, odds[cut], labels[cut], ones)
    return expert


def accuracy(expert: Expert, turned: bool = False) -> float:
    hidden, odds, labels = world(500, 9, turned)
    return float((expert(hidden, odds).argmax(dim=1) == labels).float().mean())


every = pytest.mark.parametrize("name", EVERYBODY)


@every
def test_learns(name: str) -> None:
    """A few hundred labels tell three clusters apart."""
    assert accuracy(taught(name)) > 0.9


@every
def test_follows(name: str) -> None:
    """When every label turns round, as many again are learned instead."""
    expert = taught(name, 600, 1200)
    assert accuracy(expert, turned=True) > 0.85


@every
def test_same_labels_same_bits(name: str) -> None:
    """The same labels in the same order give the same buffers, to the bit."""
    one, two = (taught(name).buffers for _ in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@every
def test_goes_on_from_a_checkpoint(name: str) -> None:
    """Restored from buffers and memory, it learns on as if nothing had happened."""
    first = taught(name)
    again = EVERYBODY[name](WIDTH, CLASSES)
    again.load(first.buffers)
    again.remember(first.memory())
    hidden, odds, labels = world(25, 4)
    for expert in (first, again):
        expert.learn(hidden, odds, labels, torch.ones(25))
    assert torch.equal(first(hidden, odds), again(hidden, odds))


@every
def test_refuses_what_does_not_fit(name: str) -> None:
    """Buffers of another width or another kind are refused, with the shape that was expected."""
    wider = EVERYBODY[name](WIDTH + 1, CLASSES)
    with pytest.raises(RuntimeError, match="expected the shape"):
        taught(name).load(wider.buffers)
    with pytest.raises(RuntimeError, match="expected the tensors"):
        taught(name).load({"strange": torch.zeros(1)})


@every
def test_wide_hidden_vectors(name: str) -> None:
    """2,048 hidden values are a normal case, and what a snapshot keeps stays under 9 MB."""
    expert = EVERYBODY[name](2048, 2)
    draw = torch.Generator().manual_seed(3)
    hidden = torch.randn(300, 2048, generator=draw)
    labels = (hidden[:, 0] > 0).long()
    for at in range(0, 300, 25):
        cut = slice(at, at + 25)
        expert.learn(hidden[cut], torch.zeros(25, 2), labels[cut], torch.ones(25))
    assert bool(torch.isfinite(expert(hidden, torch.zeros(300, 2))).all())
    assert sum(b.numel() * b.element_size() for b in expert.buffers.values()) < 9e6


def mixed() -> Mixture:
    """A mixture in which everybody has a share, some of whom see the last columns alone."""
    experts = make_experts(WIDTH, CLASSES, INPUTS)
    total = sum(range(3, len(experts) + 3)) + 3
    voices = {FROZEN: Voice(1 / total, 0.5), LAYER: Voice(2 / total, 0.7)}
    for share, (name, expert) in enumerate(experts.items(), 3):
        voices[name] = Voice(share / total, 1.4, teach(expert, 100))
    scales = torch.full((WIDTH,), 0.1), torch.full((WIDTH,), 2.0), torch.full((WIDTH,), REACH)
    return Mixture(*scales, CLASSES, voices)


def test_a_mixture_is_the_mean_of_what_each_says() -> None:
    """Whoever is linear answers in one product; it comes to what each says alone."""
    hidden, _, _ = world(50, 5)
    draw = torch.Generator().manual_seed(1)
    frozen, layer = torch.softmax(torch.randn(2, 50, CLASSES, generator=draw), dim=2)
    mixture = mixed()
    scaled, odds = mixture.scale(hidden), log_odds(frozen)
    expected = torch.zeros(50, CLASSES)
    for name, voice in mixture.voices.items():
        said = {FROZEN: odds, LAYER: log_odds(layer)}.get(name)
        said = voice.expert.ask(scaled, odds) if voice.expert is not None else said
        expected += voice.share * torch.softmax(voice.sharpness * said, dim=1)
    torch.testing.assert_close(mixture(hidden, frozen, layer), expected)


def test_inputs_alone() -> None:
    """What the last columns do not say does not reach an expert that sees them alone; without
    inputs nobody is among the experts who needs them."""
    hidden, odds, _ = world(20, 5)
    experts = make_experts(WIDTH, CLASSES, INPUTS)
    assert experts.keys() == (EVERYBODY.keys() - BETTER_ON_INPUTS)
    other = torch.cat([hidden[:, : WIDTH - INPUTS] + 1, hidden[:, WIDTH - INPUTS :]], dim=1)
    for name in INPUT_EXPERTS:
        expert = teach(experts[name], 100)
        assert torch.equal(expert.ask(hidden, odds), expert.ask(other, odds))
    for inputs in (0, WIDTH):
        assert make_experts(WIDTH, CLASSES, inputs).keys() == EXPERTS.keys()


def test_mixture_of_an_earlier_release() -> None:
    """One without a reach opens, with the reach of then."""
    tensors = mixed().tensors()
    del tensors["reach"]
    assert torch.equal(Mixture.of(tensors, WIDTH).reach, torch.full((WIDTH,), REACH))


def test_mixture_through_its_tensors() -> None:
    """A mixture made of another one's tensors says the same; its answers are probabilities."""
    hidden, _, _ = world(50, 5)
    frozen = torch.full((50, CLASSES), 1 / CLASSES)
    first = mixed()
    again = Mixture.of(first.tensors(), WIDTH)
    said = first(hidden, frozen, frozen)
    assert torch.equal(said, again(hidden, frozen, frozen))
    torch.testing.assert_close(said.sum(dim=1), torch.ones(50))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre": torch.zeros(WIDTH + 1)}, "centre: expected the shape"),
        ({"classes": None}, "the mixture has no classes"),
        ({"oracle.share": torch.ones(2)}, "there is no expert 'oracle'"),
    ],
)
def test_strange_tensors(change: dict[str, Tensor | None], message: str) -> None:
    """What is not a mixture's, or names an expert that this release has not, is refused."""
    tensors = {**mixed().tensors(), **change}
    with pytest.raises(RuntimeError, match=message):
        Mixture.of({k: v for k, v in tensors.items() if v is not None}, WIDTH)
