"""Networks of users, packaged unchanged: which can be healed, and what the others are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import odd_networks as odd
import pytest
import torch
from torch import nn

from bento_selfheal.embedding.embedder import Embedder
from bento_selfheal.embedding.source import Source
from bento_selfheal.embedding.split import answers_of
from bento_selfheal.embedding.tensors import Tensors
from bento_selfheal.embedding.texts import Texts
from bento_selfheal.embedding.values import Values
from bento_selfheal.errors import PackageError
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.model_store import find_model
from bento_selfheal.packaging.network.weights import NETWORK
from bento_selfheal.packaging.opening import open_embedder, open_package
from bento_selfheal.packaging.package import Package

ROWS = np.random.default_rng(0).normal(size=(120, odd.WIDTH)).astype(np.float32)
NAMES = [f"f{i}" for i in range(odd.WIDTH)]


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Packages go to a store of the tests."""


def packaged(network: nn.Module, head: str = "fc", outputs: int = 2, **more: Any) -> Package:
    labels = np.arange(len(ROWS)) % max(outputs, 2)
    rows = more.pop("rows", ROWS)
    return package_model("odd", rows, labels, model=network, head=head, **more)


def embedder(package: Package) -> Embedder:
    found = open_embedder(package)
    assert found is not None
    return found


def served(package: Package, inputs: list[Any]) -> np.ndarray[Any, Any]:
    """What a worker would answer, of each class."""
    with torch.no_grad():
        out = package.answer(torch.from_numpy(embedder(package).embed(inputs))).numpy()
    return np.stack([1 - out, out], axis=1) if out.ndim == 1 else out


@pytest.mark.parametrize(
    "network",
    [odd.Plain(), odd.Plain(3), odd.Plain(1), odd.InPlace(), odd.Flattens(), odd.Object(),
     odd.Softmaxed(), odd.Squeezed(), odd.Recurrent(), odd.Tied(), odd.Plain().double(),
     odd.Plain().bfloat16(), odd.Twice(), torch.compile(odd.Plain(), backend="eager"),
     nn.DataParallel(odd.Plain()), odd.ByName(), odd.HalfInside()],
    ids=lambda network: type(network).__name__,
)  # fmt: skip
def test_served_as_the_network_answers(network: nn.Module) -> None:
    """What is served is what the network says, but for the rounding of what is logged; its own
    state dict has its names still, and what it was given is unchanged."""
    plain = getattr(network, "_orig_mod", getattr(network, "module", network))
    given, dtype = ROWS.copy(), plain.fc.weight.dtype
    outputs, known = plain.fc.out_features, dict[str, Any]()
    if isinstance(plain, odd.Plain) and outputs != 2 and not isinstance(plain, odd.Squeezed):
        known = {"builder_args": {"outputs": outputs}}
    package = packaged(network, outputs=outputs, rows=given, **known)
    said = answers_of(plain.eval()(torch.from_numpy(given.copy()).to(dtype))).detach().float()
    wanted = said.reshape(len(given), -1)
    if not isinstance(plain, odd.Softmaxed | odd.Squeezed):
        wanted = wanted.softmax(dim=1) if outputs > 1 else wanted.sigmoid()
    wanted = torch.cat([1 - wanted, wanted], dim=1) if outputs == 1 else wanted
    room = 2e-2 if dtype == torch.bfloat16 else 2e-3
    assert served(package, list(given)) == pytest.approx(wanted.numpy(), abs=room)
    assert np.array_equal(given, ROWS)


def test_classes_in_another_order_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A network whose classes are not in sorted order is right on no row, which a warning says."""
    network = odd.Plain(3)
    with torch.no_grad():
        network.fc.bias -= network(torch.from_numpy(ROWS)).mean(dim=0)  # each class somewhere
        places = network(torch.from_numpy(ROWS)).argmax(dim=1).numpy()
    given: dict[str, Any] = {"model": network, "head": "fc", "builder_args": {"outputs": 3}}
    package_model("order", ROWS, np.array(["bird", "cat", "dog"])[places], **given)
    assert not caplog.records
    package_model("order", ROWS, np.array(["cat", "dog", "bird"])[places], **given)
    [warned] = caplog.messages
    assert "right on 0.0% of 32 reference rows" in warned
    assert "the classes 'bird', 'cat', 'dog', in this order" in warned


def test_a_logit_between_0_and_1_is_one() -> None:
    """A weak network's logits may all look like probabilities; its last layer says that they are
    none."""
    network = odd.Plain(1)
    with torch.no_grad():
        network.fc.weight.mul_(0.01)
        network.fc.bias.fill_(0.4)
    package = packaged(network, builder_args={"outputs": 1})
    assert package.info.output == "logit"
    assert served(package, list(ROWS))[:, 1] == pytest.approx(0.599, abs=0.01)


def test_a_network_that_looks_at_its_weights() -> None:
    """Its head is found though it cannot be built without memory."""
    assert packaged(odd.Looks()).info.hidden_dim == odd.HIDDEN


def test_bytes_are_refused_by_tensors_that_were_described() -> None:
    """What the training data were is found out where the inputs are described, too."""
    source = Tensors(shape=(odd.WIDTH,))
    package = packaged(odd.Plain(), rows=np.abs(ROWS) / 10, inputs=source)
    with pytest.raises(ValueError, match="look like bytes"):
        embedder(package).source.read([255, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(("prepare", "network"), [("ready", odd.Dict()), ("pair", odd.Dict())])
def test_several_inputs(prepare: str, network: nn.Module) -> None:
    """A function makes a dict or a tuple of tensors of whatever JSON values came."""
    source = Values(prepare=f"odd_networks:{prepare}")
    package = packaged(network, rows=ROWS.tolist(), inputs=source)
    said = network(torch.from_numpy(ROWS), torch.ones(len(ROWS), 1))["logits"].softmax(dim=1)
    assert served(package, ROWS.tolist()) == pytest.approx(said.detach().numpy(), abs=2e-3)


def test_rows_of_a_table_keep_their_names() -> None:
    """Signals and rules go by the columns of the table, which stand behind the hidden vector."""
    package = packaged(odd.Plain(), features=NAMES)
    assert package.info.features[-odd.WIDTH :] == NAMES
    assert package.reference_rows.shape[1] == odd.HIDDEN + odd.WIDTH
    assert {one.feature for one in package.info.calibration} >= set(NAMES)


def test_a_lazy_network_whose_builder_calls_it() -> None:
    """Its weights have a shape then."""
    package = packaged(odd.called_lazy(), builder="odd_networks:called_lazy")
    assert embedder(package).embed(list(ROWS)).shape == (len(ROWS), odd.HIDDEN)


def test_nothing_but_the_head_is_needed_to_heal() -> None:
    """The package opens without the network's weights, which only a worker reads."""
    package = packaged(odd.Plain())
    (Path(find_model(package.tag).path) / NETWORK).unlink()
    opened = open_package(package.tag)
    assert sum(p.numel() for p in opened.model.head.parameters()) == 2 * odd.HIDDEN + 2
    with pytest.raises(PackageError, match=r"network\.safetensors"):
        open_embedder(opened)


def forgetful() -> nn.Module:
    network = odd.Forgetful()
    network.scale = 5.0
    return network


@pytest.mark.parametrize(
    ("network", "head", "more", "why"),
    [
        (odd.Draws(), "fc", {}, "draws by chance"),
        (odd.OfItsBatch(), "fc", {}, "an input alone is embedded otherwise"),
        (forgetful(), "fc", {}, "something else than parameters and persistent buffers"),
        (odd.EachStep(), "fc", {}, r"head: it is called with shape \(48, 6, 8\)"),
        (odd.Afterthought(), "fc", {}, "by more than a sigmoid or a softmax"),
        (odd.Unused(), "spare", {}, "head: the network answers without calling 'spare'"),
        (odd.TwoViews(), "fc", {}, "head: 'fc' is called 2 times for one answer"),
        (odd.Infinite(), "fc", {}, r"input 0 is embedded with \S+ in column \d .* up to 65504"),
        (odd.OfBatches(), "fc", {}, "but not one alone, and requests come alone: ValueError"),
        (odd.Lazy(), "fc", {}, r"model: it has lazy modules \['body'\] that were never called"),
        (odd.called_lazy(), "fc", {}, "builder: 'odd_networks:Lazy' returns a network with lazy"),
        (odd.Plain().state_dict(), "fc", {}, "a torch network is needed, got OrderedDict"),
        (odd.Plain(), "fc", {"builder": odd.Plain}, "Plain'> is not of the form 'module:function'"),
        (odd.Plain(), "fcc", {}, "has no module 'fcc'; its last ones are"),
        (odd.Plain(), "", {}, "head: name the module"),
        (odd.Plain(3), "fc", {}, "does not build the model"),
        (odd.Plain(), "fc", {"builder": "odd_networks:ready"}, "builder_args"),
        (odd.Plain(), "fc", {"builder": "nowhere:at_all"}, "cannot import 'nowhere:at_all'"),
        (odd.Plain(), "fc", {"rows": ["a"] * 120}, r"inputs=Images\(…\), Texts\(…\)"),
        (odd.Plain(), "fc", {"rows": [5] * 120, "inputs": Texts()}, "row 0: a text is needed"),
        (odd.Plain(), "fc", {"facts": {"land": ["DE"]}}, "'land' has 1 values for 120 inputs"),
        (odd.Plain(), "fc", {"facts": [1]}, "a dict of lists by name is needed"),
        (odd.Plain(), "fc", {"facts": {"n": [2**70] * 120}}, "facts:"),
        (odd.Plain(), "fc", {"facts": {"a": ["b"] * 120}, "features": NAMES}, "need no inputs"),
        (odd.Plain(), "fc", {"rows": np.full((120, 6), np.nan)}, "row 0 has a value"),
        (odd.Plain(5), "fc", {"builder_args": {"outputs": 5}}, "predicts 5 classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_healed(
    network: nn.Module, head: str, more: dict[str, Any], why: str
) -> None:
    """It is refused when it is packaged, with the reason."""
    with pytest.raises(PackageError, match=why):
        packaged(network, head, **more)


def test_a_class_that_no_server_can_import() -> None:
    """A network that was defined in a notebook or a function."""

    class Local(odd.Plain):
        pass

    with pytest.raises(PackageError, match="cannot be imported by a server"):
        packaged(Local())


@pytest.mark.parametrize("source", [Texts(), Values(prepare="odd_networks:ready")])
def test_head_inputs_and_facts_are_of_networks(source: Source) -> None:
    """A table that is trained on here has neither."""
    with pytest.raises(PackageError, match="belong to a torch network"):
        package_model("table", ROWS, np.arange(120) % 2, features=NAMES, inputs=source)
