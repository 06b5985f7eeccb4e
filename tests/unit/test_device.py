"""Devices: the model answers and heals where the setting says, and CUDA agrees with the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rigs import Live, Memory, Rig, drifting, live
from torch import nn

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.config.settings import Settings, load_settings
from bento_selfheal.core.records import NewSnapshot, Phase
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.errors import PackageError, SettingsError
from bento_selfheal.healing.challenger.anchor import Anchor, Basis
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.recipe_table import make_recipe
from bento_selfheal.healing.challenger.recipes import DEVICE_TOLERANCE
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.model import ReflexiveLayer, SelfHealingModel
from bento_selfheal.packaging.adapters import CANARY_TOLERANCE, Registry
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.opening import find_device, open_package
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import predict_probabilities, probabilities_or_half
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, Stream, article_rows

# torch says so of the first backward pass in a thread of its own, and goes on.
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS:UserWarning")

FOUND = torch.cuda.device_count() if torch.cuda.is_available() else 0
ABSENT = f"cuda:{FOUND}"
NO_GPU = "torch finds no CUDA device: run the tests on a machine with an NVIDIA GPU"
cuda = pytest.mark.skipif(not FOUND, reason=NO_GPU)
# On the CPU each of these compares it with itself: the test's own code runs without a GPU too.
everywhere = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
slow_on_cpu = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=cuda)]
)


def rows_of(n: int = 400, drift: float = 2.2) -> LabelledRows:
    """Labelled rows of the article's drifted stream."""
    table = article_rows(n, drift, np.random.default_rng(3))
    return LabelledRows(table.rows, np.asarray(table.labels, dtype=np.float32))


def healed(package: Package, recipe: str = "replay", seed: int = 1) -> Challenger:
    """A line after one heal."""
    settings = HealParameters.model_validate({"recipe": recipe})
    anchor = Anchor(Basis.of(package), settings.anchor_ridge)
    challenger = Challenger(package.model, settings.heal_lr, package.model, anchor)
    rows = rows_of()
    challenger.seen = len(rows)
    make_recipe(settings).heal(
        challenger, rows, package.rules(), torch.Generator().manual_seed(seed)
    )
    return challenger


# -- the setting -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:7", "cuda:12"])
def test_setting(name: str) -> None:
    """CPU and CUDA devices by torch's own names are settings; the default is the CPU."""
    assert Settings(device=name).device == name
    assert Settings().device == "cpu"


@pytest.mark.parametrize(
    "name", ["", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:01", "cuda:1 ", "cpu:0", "meta"]
)
def test_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Any other value is refused with the setting's name and the value."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELFHEAL_DEVICE", name)
    with pytest.raises(SettingsError, match="device") as refused:
        load_settings()
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("name", [ABSENT, "cuda:99", "gpu", "mps"])
def test_no_such_device(package: Package, name: str) -> None:
    """A device that torch does not have is refused by setting and value."""
    for use in (find_device, lambda given: open_package(package.tag, given)):
        with pytest.raises(SettingsError, match="device") as refused:
            use(name)
        assert name in str(refused.value)


def test_refused_at_the_start(package: Package, tmp_path: Path) -> None:
    """A service that is to run on a device which is not there does not start: not even a store
    is made."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "state", device=ABSENT)
    with pytest.raises(SettingsError, match=ABSENT):
        prepare(settings)
    assert not (tmp_path / "state").exists()


# -- the model -------------------------------------------------------------------------------


@everywhere
def test_answers_agree(package: Package, device: str) -> None:
    """Rows go in and answers come out on the CPU; they are the CPU's."""
    there = open_package(package.tag, device)
    rows = rows_of().features
    assert there.model.device.type == device
    assert there.canary.device.type == device
    for say in (probabilities_or_half, predict_probabilities):
        assert np.abs(say(there.model, rows) - say(package.model, rows)).max() <= CANARY_TOLERANCE
    assert np.abs(there.baseline(rows) - package.baseline(rows)).max() <= CANARY_TOLERANCE
    hidden = there.embed(rows)
    assert hidden.device.type == "cpu"
    torch.testing.assert_close(hidden, package.embed(rows), atol=CANARY_TOLERANCE, rtol=1e-4)


@everywhere
def test_adapters(package: Package, device: str) -> None:
    """Adapter weights come out on the CPU, as a copy, and go in on the model's device."""
    model = open_package(package.tag, device).model
    state = model.adapter_state()
    assert {value.device.type for value in state.values()} == {"cpu"}
    other = model.with_adapter({name: value + 1 for name, value in state.items()})
    assert {p.device.type for p in other.parameters()} == {device}
    assert other.device == model.device
    for name, value in model.adapter_state().items():
        assert torch.equal(value, state[name])
        assert torch.equal(other.adapter_state()[name], value + 1)


@everywhere
def test_many_classes_and_a_convolution(home: Path, device: str) -> None:
    """Convolutions and many classes agree with the CPU as well, as answers and after a heal."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(600, 10)).astype(np.float32)
    labels = (rows[:, :3].argmax(axis=1)).astype(np.int64)
    made = package_model(
        "convolved", rows, labels, features=ARTICLE_FEATURES,
        builder="test_device:convolution", builder_args={},
    )  # fmt: skip
    there = open_package(made.tag, device)
    assert np.abs(there.baseline(rows) - made.baseline(rows)).max() <= CANARY_TOLERANCE
    said = []
    for package in (made, there):
        anchor = Anchor(Basis.of(package))
        challenger = Challenger(package.model, 0.003, package.model, anchor)
        given = LabelledRows(rows, ((labels + 1) % 3).astype(np.float32))
        make_recipe(HealParameters(recipe="replay")).heal(
            challenger, given, package.rules(), torch.Generator().manual_seed(1)
        )
        said.append(probabilities_or_half(challenger.answers, rows))
    assert np.abs(said[0] - made.baseline(rows)).max() > 0.05
    assert np.abs(said[0] - said[1]).max() <= DEVICE_TOLERANCE


@everywhere
def test_trained_there(home: Path, device: str) -> None:
    """A model that its owner trained on a device is packaged for any."""
    rows = rows_of().features
    model = convolution().to(device)
    made = package_model(
        "trained", rows, rows[:, :3].argmax(axis=1), features=ARTICLE_FEATURES, model=model,
        builder="test_device:convolution",
    )  # fmt: skip
    assert made.model.device.type == "cpu"
    assert model.device.type == device
    assert (
        np.abs(made.baseline(rows) - probabilities_or_half(model, rows)).max() <= CANARY_TOLERANCE
    )


@cuda
def test_does_not_move(home: Path) -> None:
    """A model that leaves a tensor behind when it is moved is refused when it is opened."""
    rows = rows_of().features
    made = package_model(
        "stray", rows, (rows[:, 0] > 0).astype(int), features=ARTICLE_FEATURES,
        builder="test_device:stray",
    )  # fmt: skip
    with pytest.raises(PackageError, match=r"stray.*device cuda"):
        open_package(made.tag, "cuda")


def convolution() -> SelfHealingModel:
    """A user's own backbone, three classes."""
    backbone = nn.Sequential(nn.Unflatten(1, (1, 10)), nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten())
    return SelfHealingModel(backbone, ReflexiveLayer(32), nn.Linear(32, 3), output="logit")


class Stray(nn.Module):
    """Holds a tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.ones(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset


def stray() -> SelfHealingModel:
    """A user's own backbone that cannot be moved."""
    return SelfHealingModel(Stray(), ReflexiveLayer(10), nn.Linear(10, 1), output="logit")


# -- heals -----------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("recipe", ["replay", "article"])
def test_heal_agrees(package: Package, device: str, recipe: str) -> None:
    """One heal, from the same draws, gives the CPU's answers; and it trained on the device."""
    there = open_package(package.tag, device)
    here, moved = healed(package, recipe), healed(there, recipe)
    assert {p.device.type for p in moved.model.parameters()} == {device}
    assert {p.device.type for p in moved.answers.parameters()} == {device}
    rows = rows_of().features
    said = probabilities_or_half(here.answers, rows)
    assert np.abs(said - package.baseline(rows)).max() > 0.01
    assert np.abs(probabilities_or_half(moved.answers, rows) - said).max() <= DEVICE_TOLERANCE


@everywhere
def test_kept_hidden_agrees(package: Package, device: str) -> None:
    """The buffer keeps what the backbone said on the CPU; a heal takes it to the device."""
    there = open_package(package.tag, device)
    rows = rows_of()
    said = []
    for one in (package, there):
        hidden = one.embed(rows.features)
        challenger = Challenger(one.model, 0.003, one.model, Anchor(Basis.of(one)))
        make_recipe(HealParameters(recipe="replay")).heal(
            challenger, LabelledRows(rows.features, rows.labels, hidden), one.rules(),
            torch.Generator().manual_seed(1),
        )  # fmt: skip
        said.append(probabilities_or_half(challenger.answers, rows.features))
    assert np.abs(said[0] - said[1]).max() <= DEVICE_TOLERANCE


@everywhere
def test_moments_come_back(package: Package, device: str) -> None:
    """Adam's moments come out on the CPU; a line that gets them back goes on as the first does."""
    there = open_package(package.tag, device)
    first, settings = healed(there), HealParameters(recipe="replay")
    moments = first.moments()
    assert moments
    assert {value.device.type for value in moments.values()} == {"cpu"}
    second = Challenger(there.model, settings.heal_lr, there.model)
    second.load(first.model.adapter_state(), first.answers.adapter_state())
    second.load_moments(moments)
    second.rounds, second.seen = first.rounds, first.seen
    first.anchor = None
    rows = rows_of()
    for line in (first, second):
        make_recipe(settings).heal(line, rows, there.rules(), torch.Generator().manual_seed(2))
    said, again = (probabilities_or_half(line.answers, rows.features) for line in (first, second))
    assert np.abs(said - again).max() <= CANARY_TOLERANCE


# -- from device to device -------------------------------------------------------------------


@slow_on_cpu
@pytest.mark.parametrize("there_first", [True, False], ids=["to the CPU", "from the CPU"])
def test_snapshot_moves(package: Package, device: str, there_first: bool) -> None:
    """A snapshot saved on one device is verified, and answers alike, on the other."""
    packages = [open_package(package.tag, device), package]
    first, second = packages if there_first else reversed(packages)
    line = healed(first)
    kept = Registry(first, "d0d0d0").save(
        NewSnapshot(2, Phase.POST, heal=1, batch=1, reason="x"), line.answers.adapter_state()
    )
    model = Registry(second, "d0d0d0").load(kept.tag, kept.sha256)
    assert model.device == second.model.device
    rows = rows_of().features
    assert np.abs(
        probabilities_or_half(model, rows) - probabilities_or_half(line.answers, rows)
    ).max() <= (CANARY_TOLERANCE)


@pytest.fixture(scope="module")
def served(package: Package) -> Live:
    """One drifting stream as the CPU answered and healed it; only to be looked at."""
    return live(package)


@slow_on_cpu
@pytest.mark.parametrize("there_first", [True, False], ids=["to the CPU", "from the CPU"])
def test_checkpoint_moves(package: Package, served: Live, device: str, there_first: bool) -> None:
    """A runner's checkpoint is taken up on the other device: all models answer alike and heal."""
    packages = [open_package(package.tag, device), package]
    first, second = packages if there_first else reversed(packages)
    rig = Rig(first)
    for entry in served.log[:900]:
        rig.take(entry)
    memory = Memory(second)
    memory.kept = rig.memory.kept
    other = Rig(second, memory, adopt=False)
    restore(other.pipeline.parts, dump(rig.pipeline.parts))
    rows, old, new = rows_of().features, rig.pipeline.parts, other.pipeline.parts
    assert old.scoreboard.counts.heals > 0
    for a, b in (
        (old.lineage.champion, new.lineage.champion),
        (old.line.challenger.answers, new.line.challenger.answers),
        (old.line.challenger.model, new.line.challenger.model),
    ):
        assert b.device == second.model.device
        assert (
            np.abs(probabilities_or_half(a, rows) - probabilities_or_half(b, rows)).max()
            <= CANARY_TOLERANCE
        )
    for pipeline in (rig.pipeline, other.pipeline):
        assert pipeline.heal_now()
    said, again = (probabilities_or_half(p.line.challenger.answers, rows) for p in (old, new))
    assert np.abs(said - again).max() <= DEVICE_TOLERANCE


@slow_on_cpu
def test_backtest(package: Package, device: str) -> None:
    """A whole drifting stream is answered and healed on the device, and as well as on the CPU."""
    rows, labels = drifting()
    right = []
    for one in (package, open_package(package.tag, device)):
        made = Backtest(one, Settings(model=one.tag, device=device))
        list(made.run(Stream(rows, labels.astype(np.int64), delay=100)))
        assert made.pipeline.parts.scoreboard.counts.heals > 0
        assert made.pipeline.parts.lineage.champion.device == one.model.device
        right.append(made.correct("champion").mean() - made.correct("frozen").mean())
    assert right[1] == pytest.approx(right[0], abs=0.05)
    assert right[0] > 0.05
