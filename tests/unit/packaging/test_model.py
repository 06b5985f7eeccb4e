"""The model: what is frozen, what heals, and how many parameters each part has."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bento_selfheal.model import (
    BaselineMLP,
    ReflexiveLayer,
    SelfHealingMLP,
    SelfHealingModel,
    Standardize,
    wide_mlp,
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def model() -> SelfHealingMLP:
    torch.manual_seed(0)
    return SelfHealingMLP()


def test_parameter_counts(model: SelfHealingMLP) -> None:
    """13,250 parameters: backbone 4,864, adapter 8,321, head 65."""
    assert count(model) == 13_250
    assert (count(model.backbone), count(model.reflexive), count(model.head)) == (4864, 8321, 65)


def test_baseline_has_no_adapter() -> None:
    """The baseline is the same MLP less the 8,321 parameters of the ReflexiveLayer."""
    assert count(BaselineMLP()) == 13_250 - 8321
    assert not any(isinstance(part, ReflexiveLayer) for part in BaselineMLP().modules())


def test_build_order_decides_draws() -> None:
    """Parts are built in the order backbone, reflexive, head, so that seeds give the same draws."""
    torch.manual_seed(3)
    model = SelfHealingMLP()
    torch.manual_seed(3)
    parts = [nn.Linear(10, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64),
             nn.Linear(64, 1)]  # fmt: skip
    built = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(built, parts, strict=True))


def test_adapter_formula() -> None:
    """The ReflexiveLayer gives x + scale * adapter(x), and scale starts at 0.1 and learns."""
    layer = ReflexiveLayer(4)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert layer.scale.item() == pytest.approx(0.1)
    assert layer.scale.requires_grad
    assert torch.equal(layer(x), x + layer.scale * layer.adapter(x))
    with torch.no_grad():
        layer.scale.zero_()
    assert torch.equal(layer(x), x)


def test_freeze_and_unfreeze(model: SelfHealingMLP) -> None:
    """Freezing leaves gradients to the adapter alone; unfreezing gives them back to all."""
    model.freeze_for_healing()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"reflexive"}
    assert all(p.requires_grad for p in model.reflexive.parameters())
    model.unfreeze_all()
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_answers_are_probabilities(model: SelfHealingMLP, rows: int) -> None:
    """Any number of rows gives as many probabilities, in one dimension."""
    p = model(torch.zeros(rows, 10))
    assert p.shape == (rows,)
    assert bool(((p >= 0) & (p <= 1)).all())


def test_logit_heads_give_probabilities(model: SelfHealingMLP) -> None:
    """A head that gives logits answers as the same head with its sigmoid does."""
    linear = model.head[0]  # type: ignore[index]
    logits = SelfHealingModel(model.backbone, model.reflexive, linear, "logit")
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits(x), model(x))


def test_adapter_state_is_a_copy(model: SelfHealingMLP) -> None:
    """A snapshot of the adapter does not follow later changes."""
    state = model.adapter_state()
    with torch.no_grad():
        model.reflexive.scale.fill_(9.0)
    assert state["scale"].item() == pytest.approx(0.1)
    assert not any(value.requires_grad for value in state.values())


def test_with_adapter_shares_the_frozen_parts(model: SelfHealingMLP) -> None:
    """A model beside another shares backbone and head and leaves the other's adapter alone."""
    other = model.with_adapter(model.adapter_state())
    with torch.no_grad():
        other.reflexive.scale.fill_(9.0)
    assert other.backbone is model.backbone
    assert other.head is model.head
    assert model.reflexive.scale.item() == pytest.approx(0.1)


def test_foreign_adapter_is_refused(model: SelfHealingMLP) -> None:
    """Weights of an adapter with another width are refused."""
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.with_adapter(SelfHealingMLP(10, 32).adapter_state())


def test_standardize_compresses_and_survives_constants() -> None:
    """Features are scaled; beyond 3 spreads they keep their order but grow as a logarithm does.

    A constant feature is shifted, never divided; the largest float32 gives a number.
    """
    scale = Standardize(torch.tensor([1.0, 5.0]), torch.tensor([0.2, 0.0]))
    rows = torch.tensor([[1.2, 5.0], [1.6, 6.0], [21.0, 5.0], [-19.0, 5.0], [3.4e38, 5.0]])
    out = scale(rows)
    far = 3 + math.log1p(97)
    assert out[:4, 0].tolist() == pytest.approx([1.0, 3.0, far, -far], abs=1e-4)
    assert out[:2, 1].tolist() == [0.0, 1.0]
    assert 80 < float(out[4, 0]) < 120


def test_limits_of_each_feature() -> None:
    """A feature passes unchanged up to its own limit, and a state of an earlier release, which has
    none, loads with one limit for all."""
    zeros, ones = torch.zeros(2), torch.ones(2)
    scale = Standardize(zeros, ones, torch.tensor([3.0, 20.0]))
    assert scale(torch.tensor([[10.0, 10.0]])).tolist()[0] == pytest.approx([3 + math.log1p(7), 10])
    older = {k: v for k, v in scale.state_dict().items() if k != "limit"}
    plain = Standardize(zeros, ones)
    plain.load_state_dict(older)
    assert plain.limit.tolist() == [3.0, 3.0]


def test_wide_backbone_hands_its_inputs_on() -> None:
    """The default model's hidden representation ends with the scaled features, so an adapter can
    use one that the deep part drops; the scale is not learned."""
    model = wide_mlp(3, hidden_dim=8)
    scale = model.backbone.scale
    scale.load_state_dict(
        Standardize(torch.tensor([1.0, 0, 0]), torch.full((3,), 2.0)).state_dict()
    )
    rows = torch.tensor([[3.0, 4.0, -2.0]])
    hidden = model.backbone(rows)
    assert hidden.shape == (1, 11)
    assert hidden[0, 8:].tolist() == [1.0, 2.0, -1.0]
    assert model(rows).shape == (1,)
    assert wide_mlp(3, classes=4)(rows).shape == (1, 4)
    assert not list(scale.parameters())


@pytest.mark.parametrize(("width", "weights"), [(256, 131_585), (300, 38_765), (2048, 264_257)])
def test_wide_layers_are_narrow_inside(width: int, weights: int) -> None:
    """Up to a width of 256 the layer is the article's; above, its weights grow with the width, and
    it begins without any effect."""
    layer = ReflexiveLayer(width)
    assert count(layer) == weights
    x = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), x) == (width > 256)


def test_square_state_of_an_earlier_release() -> None:
    """A wide layer that was saved when all of them were square loads into a model of today, and
    answers the same; one of another width is refused."""
    torch.manual_seed(0)
    model = SelfHealingMLP(10, 300)
    squares = [nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 300)]
    model.reflexive.adapter = nn.Sequential(*squares)
    rows = torch.randn(20, 10, generator=torch.Generator().manual_seed(1))
    today = SelfHealingMLP(10, 300)
    today.load_state_dict(model.state_dict())
    assert torch.equal(today(rows), model(rows))
    snapshot = SelfHealingMLP(10, 300).with_adapter(model.adapter_state()).adapter_state()
    assert snapshot["adapter.0.weight"].shape == (300, 300)
    with pytest.raises(RuntimeError, match="size mismatch"):
        SelfHealingMLP(10, 301).load_state_dict(model.state_dict())
