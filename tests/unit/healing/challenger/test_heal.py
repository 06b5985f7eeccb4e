"""Heals: what they train, what they leave alone, and that they repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.healing.challenger.anchor import Anchor, Basis
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.recipe_table import make_recipe
from bento_selfheal.healing.challenger.recipes import (
    ArticleRecipe,
    Recipe,
    ReplayRecipe,
    binary_entropy,
    fraud_fraction,
)
from bento_selfheal.healing.challenger.schedule import Schedule
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.model import SelfHealingMLP, SelfHealingModel
from bento_selfheal.rules import Rule, RuleSet

FEATURES = [f"F{i}" for i in range(10)]
RULES = RuleSet([Rule(feature="F7", operator="<", value=-1.5)], FEATURES)
RECIPES: list[Recipe] = [
    ArticleRecipe(HealParameters(recipe="article")),
    ReplayRecipe(HealParameters()),
]
both = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def labelled(n: int = 100, seed: int = 0) -> LabelledRows:
    """Rows whose label is known from F7, with a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-1.0, 1.5, (n, 10)).astype(np.float32)
    y = (x[:, 7] + rng.normal(0, 0.3, n) < -1.5).astype(np.float32)
    return LabelledRows(x, y)


@pytest.fixture
def model() -> SelfHealingModel:
    torch.manual_seed(0)
    return SelfHealingMLP()


def heal(challenger: Challenger, recipe: Recipe, seed: int = 1, rows_seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    recipe.heal(challenger, labelled(seed=rows_seed), RULES, generator)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def frozen(model: SelfHealingModel) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if "reflexive" not in k}


@both
def test_frozen_parts_are_bit_identical(model: SelfHealingModel, recipe: Recipe) -> None:
    """Backbone and head are bit-identical after many heals, and every adapter weight moved."""
    before, adapter = frozen(model), model.adapter_state()
    challenger = Challenger(model, 0.003)
    for number in range(10):
        heal(challenger, recipe, seed=number, rows_seed=number)
    assert same(frozen(challenger.model), before)
    after = challenger.model.adapter_state()
    assert all(not torch.equal(after[name], value) for name, value in adapter.items())


def test_challenger_can_reach_the_adapter_alone(model: SelfHealingModel) -> None:
    """A challenger gives gradients to the adapter alone, and its optimizer knows no other part."""
    challenger = Challenger(model, 0.003)
    adapter = {id(p) for p in challenger.model.reflexive.parameters()}
    assert {id(p) for p in challenger.model.parameters() if p.requires_grad} == adapter
    groups = challenger.optimizer.param_groups
    assert {id(p) for group in groups for p in group["params"]} == adapter


@both
def test_champion_is_left_alone(model: SelfHealingModel, recipe: Recipe) -> None:
    """The model that serves keeps its adapter while its challenger heals."""
    before = model.adapter_state()
    heal(Challenger(model, 0.003), recipe)
    assert same(model.adapter_state(), before)


@both
def test_recipes_are_deterministic(model: SelfHealingModel, recipe: Recipe) -> None:
    """Equal input and seed give equal weights, whatever the global generator does."""
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        challenger = Challenger(model, 0.003)
        heal(challenger, recipe)
        results.append(challenger.model.adapter_state())
    assert same(*results)


@both
def test_global_generator_is_not_drawn_from(model: SelfHealingModel, recipe: Recipe) -> None:
    """A heal draws from its own generator alone."""
    challenger = Challenger(model, 0.003)
    state = torch.get_rng_state()
    heal(challenger, recipe)
    assert torch.equal(torch.get_rng_state(), state)


@both
def test_moments_survive_a_restart(model: SelfHealingModel, recipe: Recipe) -> None:
    """Adapter and moments put into a new challenger continue the training bit by bit."""
    first = Challenger(model, 0.003)
    heal(first, recipe)
    second = Challenger(model, 0.003)
    second.load(first.model.adapter_state(), first.answers.adapter_state())
    second.load_moments(first.moments())
    second.rounds, second.seen = first.rounds, first.seen
    for challenger in (first, second):
        heal(challenger, recipe, seed=2, rows_seed=2)
    assert same(first.model.adapter_state(), second.model.adapter_state())
    assert same(first.moments(), second.moments())


@both
def test_moments_matter(model: SelfHealingModel, recipe: Recipe) -> None:
    """Without the moments the same adapter trains on to other weights: they are kept for that."""
    first = Challenger(model, 0.003)
    heal(first, recipe)
    bare = Challenger(model, 0.003)
    bare.load(first.model.adapter_state(), first.answers.adapter_state())
    for challenger in (first, bare):
        heal(challenger, recipe, seed=2, rows_seed=2)
    assert not same(first.model.adapter_state(), bare.model.adapter_state())


def test_no_moments_before_the_first_step(model: SelfHealingModel) -> None:
    """A new challenger has no moments; loading none leaves it new."""
    challenger = Challenger(model, 0.003)
    assert challenger.moments() == {}
    challenger.load_moments({})
    assert challenger.moments() == {}


def test_moments_are_copies(model: SelfHealingModel) -> None:
    """Saved moments do not follow later steps."""
    challenger = Challenger(model, 0.003)
    heal(challenger, RECIPES[0])
    saved = challenger.moments()
    kept = {name: value.clone() for name, value in saved.items()}
    heal(challenger, RECIPES[0])
    assert same(saved, kept)


def test_load_keeps_the_moments(model: SelfHealingModel) -> None:
    """Other adapter weights put in place, as a rollback does, leave the moments as they are."""
    challenger = Challenger(model, 0.003)
    heal(challenger, RECIPES[0])
    moments = challenger.moments()
    challenger.load(model.adapter_state(), model.adapter_state())
    assert same(challenger.model.adapter_state(), model.adapter_state())
    assert same(challenger.moments(), moments)


def test_article_loss(model: SelfHealingModel) -> None:
    """The article's loss is 0.70 real + 0.24 consistency + 0.03 entropy."""
    rows = labelled()
    losses = ArticleRecipe(HealParameters(heal_steps=1)).heal(
        Challenger(model, 0.003), rows, RULES, torch.Generator()
    )
    p = model(torch.from_numpy(rows.features)).detach()
    conflicts = RULES.conflicts(rows.features, p.numpy(), 0.30)
    weight = torch.tensor(
        Schedule(HealParameters()).class_weight(fraud_fraction(rows.labels, conflicts))
    )
    real = F.binary_cross_entropy_with_logits(
        torch.log(p / (1 - p + 1e-8)), torch.from_numpy(rows.labels), pos_weight=weight
    )
    consistency = F.binary_cross_entropy(p, torch.from_numpy(RULES.verdicts(rows.features)))
    expected = 0.70 * real + 0.24 * consistency + 0.03 * binary_entropy(p)
    assert losses["total"] == pytest.approx(expected.item(), rel=1e-5)
    assert losses["real"] == pytest.approx(real.item(), rel=1e-5)


def test_class_weight_follows_conflicts(model: SelfHealingModel) -> None:
    """The class weight comes from the fraud among the batch's own conflicts."""
    with torch.no_grad():
        model.head[0].bias.fill_(-3.0)  # type: ignore[index]
    rows = labelled()
    plain = ArticleRecipe(HealParameters(heal_steps=1, pos_weight_base=1.0, pos_weight_max=1.0))
    weighted = ArticleRecipe(HealParameters(heal_steps=1))
    light, heavy = (
        recipe.heal(Challenger(model, 0.003), rows, RULES, torch.Generator())["real"]
        for recipe in (plain, weighted)
    )
    assert heavy > 2 * light


def test_article_takes_the_newest_batch(model: SelfHealingModel) -> None:
    """The article's heal trains on the newest batch_size rows alone."""
    many = labelled(300)
    recipe = ArticleRecipe(HealParameters(batch_size=100))
    results = []
    for rows in (many, many.tail(100)):
        challenger = Challenger(model, 0.003)
        recipe.heal(challenger, rows, RULES, torch.Generator())
        results.append(challenger.model.adapter_state())
    assert same(*results)


def test_article_takes_its_steps(model: SelfHealingModel) -> None:
    """A heal takes heal_steps steps of Adam, at the challenger's own rate."""
    challenger = Challenger(model, 0.003)
    heal(challenger, ArticleRecipe(HealParameters(heal_steps=7)))
    assert challenger.moments()["scale/step"].item() == 7
    assert challenger.optimizer.param_groups[0]["lr"] == 0.003


def test_replay_learns(model: SelfHealingModel) -> None:
    """Replay lowers the loss on the rows that it trains on and says how far it moved."""
    rows, challenger = labelled(500), Challenger(model, 0.003)
    x, y = torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
    before = F.binary_cross_entropy(challenger.model(x), y).item()
    losses = ReplayRecipe(HealParameters(replay_first=100, anchor_labels=0)).heal(
        challenger, rows, RULES, torch.Generator().manual_seed(0)
    )
    assert F.binary_cross_entropy(challenger.model(x), y).item() < before - 0.1
    assert losses["moved"] > 0


def test_replay_prefers_new_rows(model: SelfHealingModel) -> None:
    """Where old and new labels disagree, a short half-life follows the new ones."""
    x = np.zeros((400, 10), np.float32)
    y = np.repeat([1.0, 0.0], 200).astype(np.float32)
    answers = []
    for half_life in (10.0, 1e9):
        challenger = Challenger(model, 0.01)
        recipe = ReplayRecipe(
            HealParameters(
                replay_half_life=half_life, replay_rare=1e-6, replay_first=100, anchor_labels=0
            )
        )
        recipe.heal(challenger, LabelledRows(x, y), RULES, torch.Generator().manual_seed(0))
        answers.append(challenger.model(torch.zeros(1, 10)).item())
    assert answers[0] < 0.1
    assert answers[1] == pytest.approx(0.5, abs=0.1)


def anchored(model: SelfHealingModel, rows: LabelledRows, lr: float = 0.01) -> Challenger:
    """A challenger with an anchor that knows the shadow alone."""
    basis = Basis(model(torch.from_numpy(rows.features)).detach())
    return Challenger(model, lr, anchor=Anchor(basis))


def test_replay_leans_on_the_anchor(model: SelfHealingModel) -> None:
    """A young line follows the recalibrated shadow rather than a few labels; the more labels it
    has seen, the less."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1.5, (400, 10)).astype(np.float32)
    noise = (rng.random(400) < 0.5).astype(np.float32)  # what the shadow says means nothing
    rows, spread = LabelledRows(x, noise), []
    for floor, seen in ((0.0, 0), (0.0, 10**9), (1.0, 10**9)):
        challenger = anchored(model, rows)
        challenger.seen = seen
        recipe = ReplayRecipe(
            HealParameters(replay_first=200, replay_half_life=1e9, anchor_floor=floor)
        )
        losses = recipe.heal(challenger, rows, RULES, torch.Generator().manual_seed(0))
        assert losses["lean"] == pytest.approx(max(float(seen == 0), floor), abs=1e-3)
        spread.append(float(challenger.model(torch.from_numpy(x)).detach().std()))
    young, old, floored = spread
    assert young < 0.75 * old
    assert floored < 0.75 * old


def test_what_the_anchor_teaches_takes_more_steps() -> None:
    """Labels are trained on as often whatever the anchor's share; its soft labels more often, and
    with less averaging."""
    parameters = HealParameters(replay_first=1, replay_rate=0.16)
    s = Schedule(parameters)
    assert s.steps(9, anchor_weight=0.75) == 4 * s.steps(9)
    assert s.steps(9, anchor_weight=1.0) == s.steps(9, anchor_weight=0.97)  # bounded
    # A round ends before the next labels.
    assert s.steps(9, rows_per_label=20.0, anchor_weight=1.0) == 100
    decay = s.average_decay
    assert decay(anchor_weight=0.95) < decay(anchor_weight=0.75)
    assert decay(anchor_weight=0.75) < decay(anchor_weight=0.5) == decay()
    assert decay() ** 4 == pytest.approx(parameters.replay_average)


def test_anchor_half_life() -> None:
    """It holds enough labels of a rare class; where labels are few it is longer in rows and
    shorter in labels."""
    p, half_life = HealParameters(), Schedule(HealParameters()).anchor_half_life
    assert half_life(0.5) == p.anchor_half_life
    assert half_life(0.01) == pytest.approx(p.anchor_rare / 0.01)
    few = half_life(0.5, rows_per_label=16.0)
    assert few < p.anchor_half_life < 16 * few


def test_adapter_is_bounded(model: SelfHealingModel) -> None:
    """However long a heal trains, the adapter stays within the norm that is allowed."""
    clean = model.adapter_state()
    challenger = Challenger(model, 0.05)
    recipe = ReplayRecipe(HealParameters(adapter_norm=0.5, replay_first=60))
    moved = [
        recipe.heal(challenger, labelled(seed=i), RULES, torch.Generator().manual_seed(i))["moved"]
        for i in range(5)
    ]
    for state in (challenger.model.adapter_state(), challenger.answers.adapter_state()):
        far = sum(float((state[n] - clean[n]).square().sum()) for n in clean) ** 0.5
        assert far <= 0.5001
    assert moved[-1] == pytest.approx(0.5, abs=1e-6)


def test_rare_classes_are_remembered() -> None:
    """The rarer a class, the longer the half-life: fifty of its labels stay in reach."""
    p, half_life = HealParameters(), Schedule(HealParameters()).half_life
    assert half_life(0.5) == p.replay_half_life
    assert half_life(0.01) == pytest.approx(p.replay_rare / 0.01)
    x, y = np.zeros((4, 10), np.float32), np.array([0, 0, 0, 1], np.float32)
    assert LabelledRows(x, y).rarest == 0.25
    thinned = LabelledRows(x, y, weights=np.array([2, 2, 3, 1], np.float32))
    assert thinned.rarest == 1 / 8
    assert LabelledRows(x[:0], y[:0]).rarest == 1.0


def test_replay_seed_decides(model: SelfHealingModel) -> None:
    """Another seed draws other minibatches."""
    results = []
    for seed in (1, 2):
        challenger = Challenger(model, 0.003)
        heal(challenger, RECIPES[1], seed=seed)
        results.append(challenger.model.adapter_state())
    assert not same(*results)


@pytest.mark.parametrize(
    ("share", "weight"), [(0.0, 1), (0.0999, 1), (0.10, 2), (0.20, 3), (0.30, 4), (1.0, 4)]
)
def test_class_weight(share: float, weight: float) -> None:
    """No class weight below a share of 0.10, then 2 rising by 10 a unit to at most 4."""
    assert Schedule(HealParameters()).class_weight(share) == pytest.approx(weight)


def test_fraud_fraction() -> None:
    """The share of true fraud among conflicting rows, 0 when none conflicts."""
    labels = np.array([1, 0, 1, 0], np.float32)
    assert fraud_fraction(labels, np.array([True, True, False, False])) == 0.5
    assert fraud_fraction(labels, np.zeros(4, bool)) == 0.0


def test_entropy() -> None:
    """Entropy is ln 2 for a coin and almost 0 for a certain answer."""
    assert binary_entropy(torch.tensor([0.5])).item() == pytest.approx(np.log(2), abs=1e-6)
    assert binary_entropy(torch.tensor([0.0, 1.0])).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["article", "race", "replay"])
def test_recipe_by_name(name: str) -> None:
    """The settings name the recipe."""
    assert make_recipe(HealParameters.model_validate({"recipe": name})).name == name


def test_tail() -> None:
    """The newest rows come last; asking for more than there are gives all."""
    rows = labelled(10)
    assert np.array_equal(rows.tail(3).features, rows.features[7:])
    assert len(rows.tail(99)) == 10


def test_recency() -> None:
    """Where rows between were thinned, age counts the labels that came, and a row weighs as many
    as it stands for."""
    x, y = np.zeros((3, 10), np.float32), np.zeros(3, np.float32)
    rows = LabelledRows(x, y, weights=np.array([4, 1, 1], np.float32), ages=np.array([20, 10, 0]))
    assert rows.recency(10).tolist() == [1.0, 0.5, 1.0]
    assert LabelledRows(x, y).recency(1).tolist() == [0.25, 0.5, 1.0]
    assert len(rows.since(20)) == 2
    assert len(rows.since(20.5)) == 3
