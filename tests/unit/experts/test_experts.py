"""Experts: they learn, forget, and go through a snapshot and a checkpoint unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.mixture import FROZEN, LAYER, Mixture, Voice, log_odds
from bento_selfheal.experts.table import EXPERTS

WIDTH, CLASSES = 6, 3


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
    expert = EXPERTS[name](WIDTH, CLASSES)
    for rows, seed, other in ((n, 1, False), (turned, 2, True)):
        hidden, odds, labels = world(rows, seed, other)
        for at in range(0, rows, 25):
            cut = slice(at, at + 25)
            expert.learn(hidden[cut], odds[cut], labels[cut], torch.ones(len(labels[cut])))
    return expert


def accuracy(expert: Expert, turned: bool = False) -> float:
    hidden, odds, labels = world(500, 9, turned)
    return float((expert(hidden, odds).argmax(dim=1) == labels).float().mean())


every = pytest.mark.parametrize("name", EXPERTS)


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
    one, two = (dict(taught(name).named_buffers()) for _ in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@every
def test_goes_on_from_a_checkpoint(name: str) -> None:
    """Restored from buffers and memory, it learns on as if nothing had happened."""
    first = taught(name)
    again = EXPERTS[name](WIDTH, CLASSES)
    again.load(dict(first.named_buffers()))
    again.remember(first.memory())
    hidden, odds, labels = world(25, 4)
    for expert in (first, again):
        expert.learn(hidden, odds, labels, torch.ones(25))
    assert torch.equal(first(hidden, odds), again(hidden, odds))


@every
def test_refuses_what_does_not_fit(name: str) -> None:
    """Buffers of another width or another kind are refused, with the shape that was expected."""
    wider = EXPERTS[name](WIDTH + 1, CLASSES)
    with pytest.raises(RuntimeError, match="expected the shape"):
        taught(name).load(dict(wider.named_buffers()))
    with pytest.raises(RuntimeError, match="expected the tensors"):
        taught(name).load({"strange": torch.zeros(1)})


@every
def test_wide_hidden_vectors(name: str) -> None:
    """2,048 hidden values are a normal case, and what a snapshot keeps stays under 9 MB."""
    expert = EXPERTS[name](2048, 2)
    draw = torch.Generator().manual_seed(3)
    hidden = torch.randn(300, 2048, generator=draw)
    labels = (hidden[:, 0] > 0).long()
    for at in range(0, 300, 25):
        cut = slice(at, at + 25)
        expert.learn(hidden[cut], torch.zeros(25, 2), labels[cut], torch.ones(25))
    assert bool(torch.isfinite(expert(hidden, torch.zeros(300, 2))).all())
    assert sum(b.numel() * b.element_size() for b in expert.buffers()) < 9e6


def mixed() -> Mixture:
    """A mixture in which everybody has a share."""
    voices = {
        name: Voice(share / 55, sharpness, taught(name, 100) if name in EXPERTS else None)
        for share, (name, sharpness) in enumerate(
            zip([FROZEN, LAYER, *EXPERTS], (0.5, 0.7, *[1.4] * len(EXPERTS)), strict=True), 1
        )
    }
    return Mixture(torch.full((WIDTH,), 0.1), torch.full((WIDTH,), 2.0), CLASSES, voices)


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
        said = voice.expert(scaled, odds) if voice.expert is not None else said
        expected += voice.share * torch.softmax(voice.sharpness * said, dim=1)
    torch.testing.assert_close(mixture(hidden, frozen, layer), expected)


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
