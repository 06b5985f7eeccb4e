"""A packaged model: any torch backbone and head, calibrated, kept whole, refused when damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

from bento_selfheal.core.tensors import hash_file
from bento_selfheal.errors import PackageError
from bento_selfheal.experts.table import make_experts
from bento_selfheal.healing.drift.fidi import calibrated_fidi
from bento_selfheal.model import ReflexiveLayer, SelfHealingModel
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.experts import open_race
from bento_selfheal.packaging.model_store import home_store
from bento_selfheal.packaging.opening import EXPERTS, REFERENCE, WEIGHTS, open_package
from bento_selfheal.packaging.package import INFO, Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.rules import Rule

FEATURES = ["load", "heat", "age", "fixed"]
QUICK = Training(epochs=3, lr=0.01)


def convolution(width: int, channels: int = 3) -> SelfHealingModel:
    """A user's own: a convolution as backbone, a head that gives logits."""
    backbone = nn.Sequential(
        nn.Unflatten(1, (1, width)), nn.Conv1d(1, channels, 2), nn.Tanh(), nn.Flatten()
    )
    hidden = channels * (width - 1)
    return SelfHealingModel(backbone, ReflexiveLayer(hidden), nn.Linear(hidden, 1), output="logit")


def no_model() -> nn.Module:
    """A builder that gives something else."""
    return nn.Linear(4, 1)


def no_probability(width: int) -> SelfHealingModel:
    """A builder whose head gives logits and does not say so."""
    return SelfHealingModel(nn.Linear(width, 8), ReflexiveLayer(8), nn.Linear(8, 1))


@pytest.fixture(autouse=True)
def _own_store(home: Path) -> None:
    """Every test here writes to the session's model store."""


def data(n: int = 400, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    rows = generator.normal([10, -3, 0, 7], [2, 0.5, 1, 0], size=(n, 4)).astype(np.float32)
    return rows, (rows[:, 0] > 10).astype(int)


def made(**more: Any) -> Package:
    rows, labels = data()
    given = {"features": FEATURES, "training": QUICK, **more}
    return package_model("own", given.pop("rows", rows), given.pop("labels", labels), **given)


OWN = {"builder": "test_package:convolution", "builder_args": {"width": 4}}


def test_own_architecture() -> None:
    """A backbone and head of the user's own are trained, stored and opened again with the same
    answers to the bit; width, hidden size and output come from what was packaged."""
    package = made(**OWN, training=Training(epochs=30, lr=0.01))
    again = open_package(package.tag)
    rows, _ = data(seed=1)
    assert np.array_equal(package.baseline(rows), again.baseline(rows))
    assert (again.info.hidden_dim, again.info.output) == (9, "logit")
    assert isinstance(again.model.backbone[1], nn.Conv1d)
    assert again.info.accuracy > 0.8
    assert not again.model.training
    assert not any(p.requires_grad for p in again.model.parameters())


def test_trained_elsewhere() -> None:
    """A model that is trained already is taken as it is, to the bit."""
    torch.manual_seed(0)
    model = convolution(4)
    rows, _ = data(seed=1)
    with torch.no_grad():
        before = model(torch.from_numpy(rows)).numpy()
    package = made(**OWN, model=model)
    assert np.array_equal(open_package(package.tag).baseline(rows), before)


def test_reference_set() -> None:
    """The reference set is held out: rows of the data, of the share asked for, with their labels,
    and the packaged accuracy is the accuracy on it."""
    rows, labels = data()
    package = made(reference_share=0.25)
    assert package.reference_rows.shape == (100, 4)
    known = {row.tobytes(): label for row, label in zip(rows, labels, strict=True)}
    for row, label in zip(package.reference_rows, package.reference_labels, strict=True):
        assert known[row.tobytes()] == label
    said = package.baseline(package.reference_rows) >= 0.5
    assert package.info.accuracy == np.mean(said == package.reference_labels)
    assert package.canary.shape == (32, 4)


def test_calibration() -> None:
    """Each watched feature is calibrated with its own mean and spread; by default a constant one
    is left out, and one that is asked for stays."""
    rows, _ = data()
    package = made()
    assert [c.feature for c in package.info.calibration] == ["load", "heat", "age"]
    load = package.info.calibration[0]
    assert load.mean == pytest.approx(rows[:, 0].astype(np.float64).mean())
    assert load.std == pytest.approx(rows[:, 0].astype(np.float64).std())
    assert package.sensitive_columns == [0, 1, 2]
    asked = made(sensitive=["fixed", "heat"])
    assert [(c.feature, c.std > 0) for c in asked.info.calibration] == [
        ("fixed", False), ("heat", True),
    ]  # fmt: skip
    assert asked.sensitive_columns == [3, 1]


def test_constant_feature_serves() -> None:
    """A feature that was constant in training neither divides by zero nor alarms FIDI when it
    moves."""
    package = made(sensitive=["fixed"])
    rows, _ = data(seed=2)
    rows[:, 3] += 100
    assert np.isfinite(package.baseline(rows)).all()
    fidi = calibrated_fidi(package, 5)
    assert [fidi.update(rows[:50, package.sensitive_columns]) for _ in range(4)] == [0.0] * 4


@pytest.mark.parametrize("value", [0.1, 0.003467, 7.3])
def test_rounding_gives_a_constant_no_spread(value: float) -> None:
    """A constant whose float32 mean is rounded has a spread of 0, not of a billionth by which
    any move would be divided."""
    rows, labels = data()
    rows[:, 3] = value
    package = package_model("rounded", rows, labels, features=FEATURES, training=QUICK)
    assert "fixed" not in [c.feature for c in package.info.calibration]
    moved = rows[:1].copy()
    moved[0, 3] += 1
    scaled = package.embed(moved)[0, -len(FEATURES) :]
    assert float(scaled[3]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("names", "classes"),
    [(np.array(["no", "yes"]), ["no", "yes"]), (np.array([3, 7]), [3, 7]),
     (np.array([False, True]), [0, 1]), (np.array([0.0, 1.0]), [0, 1])],
)  # fmt: skip
def test_classes(names: np.ndarray[Any, Any], classes: list[Any]) -> None:
    """Classes are text or whole numbers; the one that sorts last is the one whose probability
    is served."""
    _, labels = data()
    package = made(labels=names[labels], training=Training(epochs=30, lr=0.01))
    assert open_package(package.tag).info.classes == classes
    rows, truth = data(seed=3)
    assert np.mean((package.baseline(rows) >= 0.5) == truth) > 0.8


def test_rules_and_summary() -> None:
    """Rules are packaged by feature name; `bentoml models get` tells what the model is."""
    rule = Rule(feature="age", operator=">", value=2.0, target=0)
    package = made(rules=[rule])
    again = open_package(package.tag)
    assert again.info.rules == [rule]
    assert len(again.rules()) == 1
    stored = bentoml.models.get(package.tag)
    assert stored.info.labels == {"selfheal": "package"}
    metadata = stored.info.metadata
    assert metadata["rules"] == ["age > 2 -> class 0"]
    assert metadata["features"] == 4
    assert metadata["reference_rows"] == 40


def test_reproducible() -> None:
    """Equal data and seed give equal weights and reference set; another seed gives others; and
    the caller's random state is not touched."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = made(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(10)
    two, other = made(seed=1), made(seed=2)
    assert one.info.weights_sha256 == two.info.weights_sha256 != other.info.weights_sha256
    assert np.array_equal(one.reference_rows, two.reference_rows)
    assert not np.array_equal(one.reference_rows, other.reference_rows)


def _nan() -> np.ndarray[Any, Any]:
    rows, _ = data()
    rows[17, 2] = np.nan
    rows[3, 0] = np.inf
    return rows


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"features": FEATURES[:3]}, r"rows: shape \(400, 4\) does not match 3"),
        ({"features": ["a", "b", "b", "c"]}, "features: names occur more than once"),
        ({"rows": _nan()}, "rows: row 3, load is inf; row 17, age is nan"),
        ({"rows": np.zeros(400)}, "rows: shape"),
        (
            {"rows": np.zeros((400, 3, 8, 8))},
            r"rows: shape \(400, 3, 8, 8\) is no table \(400, 4\): pass rows.reshape\(len\(rows\)"
            r", -1\), name its 192 columns.*torch.nn.Unflatten\(1, \(3, 8, 8\)\)",
        ),
        ({"rows": data(20)[0], "labels": data(20)[1]}, "rows: 20 rows are too few"),
        ({"labels": [0, 1]}, "labels: shape"),
        ({"labels": np.zeros(400)}, "labels: at least two classes"),
        (
            {"rules": [Rule(feature="load", value=0, target=2)]},
            "rules: .* name a class beyond the 2",
        ),
        ({"rules": [Rule(function="no.such:f")]}, "rules: function: cannot import"),
        ({"sensitive": ["load", "V14"]}, r"sensitive: unknown features \['V14'\]"),
        ({"rules": [Rule(feature="V14", operator="<", value=0)]}, "rules: .*V14"),
        ({"builder": "no_colon"}, "builder: 'no_colon' is not of the form 'module:function'"),
        ({"rules": [Rule(function="no_colon")]}, "rules: function: 'no_colon' is not of the form"),
        ({"builder": "no.such.module:f"}, "builder: cannot import"),
        ({"builder": "test_package:no_such"}, "builder: cannot import"),
        ({"builder": "test_package:no_model"}, "builder: .*Linear"),
        ({"builder": "test_package:convolution"}, "builder_args: .*width"),
    ],
)
def test_parts_that_do_not_fit(wrong: dict[str, Any], said: str) -> None:
    """Whatever does not fit together is refused by name, and nothing reaches the model store."""
    before = {str(m.tag) for m in home_store().list()}
    with pytest.raises(PackageError, match=said):
        made(**wrong)
    assert {str(m.tag) for m in home_store().list()} == before


def test_no_probabilities() -> None:
    """A model whose answers are no probabilities is refused, with the way out."""
    torch.manual_seed(0)
    with pytest.raises(PackageError, match="output='logit'"):
        made(model=no_probability(4), builder="test_package:no_probability",
             builder_args={"width": 4})  # fmt: skip


def test_builder_of_another_model() -> None:
    """A builder that does not build the like of the given model is refused."""
    with pytest.raises(PackageError, match="does not build the model"):
        made(model=convolution(4), builder=OWN["builder"],
             builder_args={"width": 4, "channels": 5})  # fmt: skip


def test_a_model_without_its_builder() -> None:
    """Whoever passes a network of his own is told what else it takes."""
    with pytest.raises(PackageError, match=r"model: .* needs builder='module:function' and bui"):
        made(model=convolution(4))


def folder_of(package: Package) -> Path:
    return Path(home_store().get(package.tag).path)


def _flip(folder: Path) -> None:
    blob = bytearray((folder / WEIGHTS).read_bytes())
    blob[-1] ^= 1
    (folder / WEIGHTS).write_bytes(blob)


def _other_weights(folder: Path) -> None:
    state = {k: v + 1 for k, v in load_file(folder / WEIGHTS).items()}
    save_file(state, folder / WEIGHTS)


def _unknown_field(folder: Path) -> None:
    info = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps({**info, "surprise": 1}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip, WEIGHTS), (_other_weights, WEIGHTS), (_unknown_field, "surprise"),
        (lambda f: (f / WEIGHTS).unlink(), WEIGHTS),
        (lambda f: (f / INFO).unlink(), INFO),
        (lambda f: (f / INFO).write_text("{"), INFO),
        (lambda f: (f / REFERENCE).unlink(), REFERENCE),
        (lambda f: (f / REFERENCE).write_bytes(b"half"), REFERENCE),
    ],
    ids=["flipped", "other weights", "unknown field", "no weights", "no info", "half info",
         "no reference", "half reference"],
)  # fmt: skip
def test_damaged(damage: Callable[[Path], Any], said: str) -> None:
    """A damaged package is refused with its tag and the file that is wrong."""
    package = made()
    damage(folder_of(package))
    with pytest.raises(PackageError) as refused:
        open_package(package.tag)
    assert package.tag in str(refused.value)
    assert said in str(refused.value)


def test_experts_know_the_training_rows() -> None:
    """A package's experts answer well before any label came; a damaged file of them is refused;
    without one, as an earlier release made it, they learn the reference set."""
    package = made()
    knows = open_race(package)
    folder = folder_of(package)
    (folder / EXPERTS).write_bytes((folder / EXPERTS).read_bytes()[:-1] + b"x")
    with pytest.raises(PackageError, match=r"experts.safetensors: .* the hash"):
        open_race(package)
    (folder / EXPERTS).unlink()
    info = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps({**info, "experts_sha256": ""}))
    older = open_race(open_package(package.tag))
    assert older.experts.keys() == knows.experts.keys()
    rows, labels = data(seed=8)
    hidden, odds = package.embed(rows), torch.zeros(len(rows), 2)
    scaled = knows.mixture().scale(hidden)
    right = [
        float((race.experts["ridge"](scaled, odds).argmax(dim=1).numpy() == labels).mean())
        for race in (knows, older)
    ]
    assert right[0] > 0.9
    assert right[0] > right[1] > 0.5


def test_experts_of_another_release(caplog: pytest.LogCaptureFixture) -> None:
    """A package without one of today's experts opens: all know the reference set, and the log says
    what to do."""
    package = made()
    folder = folder_of(package)
    state = load_file(folder / EXPERTS)
    save_file({k: v for k, v in state.items() if not k.startswith("ridge.")}, folder / EXPERTS)
    info = json.loads((folder / INFO).read_text())
    sha256 = hash_file(folder / EXPERTS)
    (folder / INFO).write_text(json.dumps({**info, "experts_sha256": sha256}))
    race = open_race(open_package(package.tag))
    inputs = len(package.info.features)
    assert race.experts.keys() == make_experts(package.model.reflexive.dim, 2, inputs).keys()
    assert race.mixture().voices
    assert "Package the model again" in caplog.text


def test_sparse_features_keep_their_size() -> None:
    """Where most rows have one value, all others that were trained on pass uncompressed; where the
    others have one value, too, and where values spread, all beyond three spreads are compressed."""
    draw = np.random.default_rng(3)
    n = 2000
    rows = draw.normal(size=(n, 3)).astype(np.float32)
    rare = draw.random((n, 2)) < 0.02
    rows[:, 1] = np.where(rare[:, 0], draw.exponential(5, n), 0)
    rows[:, 2] = rare[:, 1]
    package = made(rows=rows, labels=(rows[:, 0] > 0).astype(int), features=["a", "words", "flag"])
    scale = package.model.backbone.scale
    assert scale.limit[[0, 2]].tolist() == [3.0, 3.0]
    assert float(scale.limit[1]) > 10
    asked = torch.tensor([[0.0, 5.0, 0.0], [0.0, 10.0, 0.0]])
    spread = scale(asked)[1, 1] - scale(asked)[0, 1]
    assert float(spread) == pytest.approx(5 / float(scale.std[1]), rel=1e-4)


class InPlace(nn.Module):
    """A backbone that works on its input in place, as a `clamp_` does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden representation ``(n, 4)``; no row is no row to this model."""
        assert len(x) > 0
        out: torch.Tensor = self.linear(x.clamp_(-0.1, 0.1))
        return out


def in_place() -> SelfHealingModel:
    head = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    return SelfHealingModel(InPlace(), ReflexiveLayer(4), head)


@pytest.mark.parametrize("given", [True, False], ids=["given", "trained here"])
def test_a_model_that_works_in_place(given: bool) -> None:
    """Its reference set holds the rows as they were given, also after its canary was answered,
    and at no time is it asked for no rows."""
    rows, labels = data()
    kept = rows.copy()
    package = made(
        rows=rows, labels=labels, model=in_place() if given else None,
        builder="test_package:in_place", builder_args={}, training=Training(epochs=1),
    )  # fmt: skip
    with torch.no_grad():
        package.model(package.canary)
    assert np.array_equal(rows, kept)
    known = {row.tobytes() for row in kept.astype(np.float32)}
    assert {row.tobytes() for row in package.reference_rows} <= known


def test_few_rows_are_trained_on_for_long_enough() -> None:
    """A model of 130 rows is about as good on rows to come as a regression of the same rows."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 4, 1130)
    rows = generator.normal(size=(4, 8))[labels] + generator.normal(size=(1130, 8))
    package = package_model("few", rows[:130], labels[:130], features=list("abcdefgh"))
    fitted = LogisticRegression().fit(rows[:130], labels[:130])
    right = (package.baseline(rows[130:].astype(np.float32)).argmax(axis=1) == labels[130:]).mean()
    assert right > fitted.score(rows[130:], labels[130:]) - 0.02
