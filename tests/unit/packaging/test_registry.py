"""The registry: what comes out of the model store is what went in, or it is refused by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import bentoml
import numpy as np
import pytest
import torch
from bentoml._internal.models.model import Model, ModelStore
from safetensors.torch import load_file, save_file
from snapshots import adapter, file_of, flip
from torch import Tensor

from bento_selfheal.core.records import NewSnapshot, Phase, Snapshot
from bento_selfheal.errors import SnapshotError
from bento_selfheal.experts.mixture import FROZEN, Mixture, Voice
from bento_selfheal.packaging.adapters import ADAPTER, Registry
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.experts import open_race
from bento_selfheal.packaging.model_store import bentoml_home, home_store
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.scoring.probabilities import predict_probabilities
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows


@pytest.fixture
def registry(package: Package) -> Registry:
    return Registry(package, "a1b2c3")


def saved(registry: Registry, version: int = 3) -> Snapshot:
    new = NewSnapshot(
        version, Phase.POST, heal=2, batch=11, reason="z=1.50 on V14", facts={"recipe": "replay"}
    )
    return registry.save(new, adapter(registry.package))


def test_round_trip(registry: Registry) -> None:
    """A snapshot loads to the same adapter bit for bit, on the packaged backbone and head,
    frozen and in eval mode."""
    snapshot = saved(registry)
    model = registry.load(snapshot.tag, snapshot.sha256)
    for name, value in adapter(registry.package).items():
        assert torch.equal(model.adapter_state()[name], value)
    assert model.backbone is registry.package.model.backbone
    assert model.head is registry.package.model.head
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_round_trip_of_a_mixture(registry: Registry) -> None:
    """An adapter with experts loads from the model store, and answers as before."""
    package, race = registry.package, open_race(registry.package)
    everybody = [FROZEN, *race.experts]
    model = package.model.with_adapter(package.model.adapter_state())
    zeros, ones = torch.zeros(model.reflexive.dim), torch.ones(model.reflexive.dim)
    model.mixture = Mixture(
        zeros, ones, 8 * ones, 2,
        {name: Voice(1 / len(everybody), 1.0, race.experts.get(name)) for name in everybody},
    )  # fmt: skip
    new = NewSnapshot(4, Phase.POST, heal=1, batch=1, reason="raced")
    snapshot = registry.save(new, model.adapter_state())
    rows = article_rows(20, 1.0, np.random.default_rng(1)).rows
    loaded = registry.load(snapshot.tag, snapshot.sha256)
    np.testing.assert_array_equal(
        predict_probabilities(loaded, rows), predict_probabilities(model, rows)
    )


def test_repeat(registry: Registry) -> None:
    """An adapter is kept once more, under a version and a phase of its own, and outlives the first;
    damaged bytes are not repeated."""
    first = saved(registry)
    new = NewSnapshot(4, Phase.PRE, heal=3, batch=12, reason="before")
    again = registry.repeat(new, first)
    assert bentoml.models.get(again.tag).info.metadata["phase"] == "pre-heal"
    assert bentoml.models.get(again.tag).info.metadata["version"] == 4
    registry.delete(first.tag)
    model = registry.load(again.tag, again.sha256)
    for name, value in adapter(registry.package).items():
        assert torch.equal(model.adapter_state()[name], value)
    file_of(again).write_bytes(b"damaged")
    fresh = Registry(registry.package, "a1b2c3")
    with pytest.raises(SnapshotError, match="hash"):
        fresh.repeat(NewSnapshot(5, Phase.PRE, heal=4, batch=13, reason="before"), again)


def test_model_store_shows_it(registry: Registry) -> None:
    """`bentoml models list/get` tell phase, heal, batch, reason and package of a snapshot."""
    snapshot = saved(registry)
    name = registry.package.name
    assert snapshot.tag == f"{name}-adapter:a1b2c3-000003-post-heal"
    stored = bentoml.models.get(snapshot.tag)
    assert stored.info.labels == {"selfheal": "adapter", "phase": "post-heal", "heal": "2"}
    metadata = stored.info.metadata
    assert metadata["version"] == 3
    assert metadata["batch"] == 11
    assert metadata["reason"] == "z=1.50 on V14"
    assert metadata["package"] == registry.package.tag
    assert metadata["sha256"] == snapshot.sha256
    assert metadata["recipe"] == "replay"
    assert file_of(snapshot).stat().st_size < 100_000


def truncate(path: Path, sha: str) -> str:
    path.write_bytes(path.read_bytes()[:-100])
    return sha


def truncate_and_sign(path: Path, sha: str) -> str:
    truncate(path, sha)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def empty(path: Path, sha: str) -> str:
    path.write_bytes(b"")
    return hashlib.sha256(b"").hexdigest()


def remove(path: Path, sha: str) -> str:
    path.unlink()
    return sha


def rewritten(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path, str], str]:
    """Another file under its own, right hash."""

    def damage(path: Path, _: str) -> str:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return damage


def _nan(t: dict[str, Tensor]) -> None:
    t["adapter.0.weight"][3, 3] = float("nan")


def _infinite(t: dict[str, Tensor]) -> None:
    t["scale"] = torch.tensor(float("inf"))


def _shape(t: dict[str, Tensor]) -> None:
    t["adapter.0.bias"] = torch.zeros(7)


def _missing(t: dict[str, Tensor]) -> None:
    del t["adapter.2.weight"]


def _extra(t: dict[str, Tensor]) -> None:
    t["backbone.0.weight"] = torch.zeros(3)


def _no_canary(t: dict[str, Tensor]) -> None:
    del t["canary"]


def _other_weights(t: dict[str, Tensor]) -> None:
    t["adapter.2.bias"] += 1.0


def _overflow(t: dict[str, Tensor]) -> None:
    t["adapter.2.weight"] = torch.full_like(t["adapter.2.weight"], 3e38)
    t["scale"] = torch.tensor(3e38)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "hash"), (truncate, "hash"), (remove, "cannot be read"),
        (truncate_and_sign, "not readable"), (empty, "not readable"),
        (rewritten(_nan), "adapter.0.weight"), (rewritten(_infinite), "scale"),
        (rewritten(_shape), "does not fit"), (rewritten(_missing), "does not fit"),
        (rewritten(_extra), "does not fit"), (rewritten(_no_canary), "canary"),
        (rewritten(_other_weights), "canary"), (rewritten(_overflow), "canary"),
    ],
    ids=["flipped", "truncated", "no file", "truncated, signed", "empty, signed", "nan",
         "infinite", "shape", "missing tensor", "extra tensor", "no canary", "other weights",
         "overflow"],
)  # fmt: skip
def test_damage(registry: Registry, damage: Callable[[Path, str], str], said: str) -> None:
    """Whatever is wrong with a snapshot, it is refused with its tag and what is wrong."""
    snapshot = saved(registry)
    sha256 = damage(file_of(snapshot), snapshot.sha256)
    with pytest.raises(SnapshotError) as refused:
        registry.load(snapshot.tag, sha256)
    assert snapshot.tag in str(refused.value)
    assert said in str(refused.value)


def test_on_disk(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a snapshot is on disk, its names too, before anyone may promote it."""
    synced, real = set(), os.fsync

    def watch(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", watch)
    folder = file_of(saved(registry, 9)).parent
    assert {path.stat().st_ino for path in (*folder.rglob("*"), folder, folder.parent)} <= synced


def test_no_such_snapshot(registry: Registry) -> None:
    """A tag that the model store does not have is named."""
    tag = registry.tag(99, Phase.PRE)
    with pytest.raises(SnapshotError, match="000099-pre-heal"):
        registry.load(tag, "ab")


def test_other_package(registry: Registry) -> None:
    """An adapter of another packaged model is refused, whether its width fits or not."""
    table = article_rows(300, 0.0, np.random.default_rng(8))
    for hidden in (64, 16):
        other = package_model(
            "another", table.rows, table.labels, features=ARTICLE_FEATURES,
            builder_args={"input_dim": 10, "hidden_dim": hidden}, training=Training(epochs=1),
        )  # fmt: skip
        foreign = Registry(other, "a1b2c3").save(
            NewSnapshot(1, Phase.CLEAN, heal=0, batch=0, reason="packaged"),
            other.model.adapter_state(),
        )
        with pytest.raises(SnapshotError, match=foreign.tag):
            registry.load(foreign.tag, foreign.sha256)


def test_not_finite_is_not_saved(registry: Registry) -> None:
    """Weights that are not finite never reach the model store."""
    state = adapter(registry.package)
    state["adapter.0.bias"][0] = float("nan")
    with pytest.raises(SnapshotError, match=r"version 77.*adapter\.0\.bias"):
        registry.save(NewSnapshot(77, Phase.POST, heal=1, batch=1, reason="x"), state)
    with pytest.raises(bentoml.exceptions.NotFound):
        bentoml.models.get(registry.tag(77, Phase.POST))


def test_over_a_half_written_one(registry: Registry) -> None:
    """What a killed runner left half of is written anew, to the same bytes."""
    first = saved(registry, 5)
    file_of(first).write_bytes(b"half")
    second = saved(registry, 5)
    assert second.sha256 == first.sha256
    registry.load(second.tag, second.sha256)


def test_half_written_folder(registry: Registry) -> None:
    """A folder without the model's own description is no obstacle either."""
    tag = registry.tag(6, Phase.POST)
    name, version = tag.split(":")
    folder = bentoml_home() / "models" / name / version
    folder.mkdir(parents=True)
    (folder / ADAPTER).write_bytes(b"half")
    snapshot = saved(registry, 6)
    assert snapshot.tag == tag
    registry.load(tag, snapshot.sha256)


def test_killed_while_saving(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while BentoML writes a model leaves nothing that readers stumble over;
    `bentoml serve` reads all of the store when it starts."""

    def die(self: Model, store: ModelStore) -> None:
        (store._path / self.tag.path()).mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Model, "save", die)
        with pytest.raises(KeyboardInterrupt):
            saved(registry, 7)
    assert registry.tag(7, Phase.POST) not in [str(m.tag) for m in bentoml.models.list()]
    again = saved(registry, 7)
    registry.load(again.tag, again.sha256)


def test_delete(registry: Registry) -> None:
    """A deleted snapshot is gone from the model store; deleting it again is no error."""
    snapshot = saved(registry, 8)
    registry.delete(snapshot.tag)
    registry.delete(snapshot.tag)
    with pytest.raises(SnapshotError):
        registry.load(snapshot.tag, snapshot.sha256)
    assert snapshot.tag not in [str(m.tag) for m in bentoml.models.list()]


def test_two_stores(package: Package) -> None:
    """Snapshots of two stores with the same package do not overwrite each other."""
    one, two = Registry(package, "aaaaaa"), Registry(package, "bbbbbb")
    assert one.tag(2, Phase.PRE) != two.tag(2, Phase.PRE)


# -- replicas, each with a model store of its own -----------------------------------------------


class AdapterStore(dict[str, tuple[bytes, str]]):
    """What the shared store is to a registry."""

    def keep_adapter(self, sha256: str, blob: bytes, signature: str) -> None:
        self[sha256] = blob, signature

    def adapter(self, sha256: str) -> tuple[bytes, str] | None:
        return self.get(sha256)


def test_leftovers(registry: Registry) -> None:
    """What a killed runner left in the model store goes once it is old, without replicas too."""
    kept, left = saved(registry, 20), saved(registry, 21)
    for old in (kept, left):
        os.utime(file_of(old).parent, (1.0, 1.0))
    registry.prune({kept.tag})
    assert [file_exists(s.tag) for s in (kept, left)] == [True, False]


@pytest.mark.parametrize("harm", ["missing", "damaged", "another's"])
def test_materialises(package: Package, harm: str) -> None:
    """A replica without the promoted bytes takes them from the shelf, verifies them, and has them
    in its own model store from then on."""
    shelf = AdapterStore()
    registry = Registry(package, "f0f0f0", shelf)
    snapshot = saved(registry)
    if harm == "missing":
        registry.delete(snapshot.tag)
    elif harm == "damaged":
        flip(file_of(snapshot), snapshot.sha256)
    else:
        Registry(package, "f0f0f0").save(
            NewSnapshot(3, Phase.POST, heal=1, batch=1, reason="another leader's"),
            package.model.adapter_state(),
        )
    model = registry.load(snapshot.tag, snapshot.sha256)
    assert torch.equal(model.reflexive.scale, adapter(package)["scale"])
    shelf.clear()
    Registry(package, "f0f0f0").load(snapshot.tag, snapshot.sha256)


def test_shelf_is_not_trusted(package: Package) -> None:
    """Bytes of another hash on the shelf are refused, and no copy of them is made."""
    shelf = AdapterStore()
    registry = Registry(package, "f1f1f1", shelf)
    snapshot = saved(registry)
    registry.delete(snapshot.tag)
    blob, signature = shelf[snapshot.sha256]
    shelf[snapshot.sha256] = blob[:-1] + b"\0", signature
    with pytest.raises(SnapshotError, match="cannot be read"):
        registry.load(snapshot.tag, snapshot.sha256)
    with pytest.raises(bentoml.exceptions.NotFound):
        home_store().get(snapshot.tag)


# -- signatures -----------------------------------------------------------------------------------

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def test_signed(package: Package) -> None:
    """With a key an adapter loads that was signed with it; one that was not, or with another key,
    is refused like a damaged one, though its hash is what was promoted."""
    signing = Registry(package, "f3f3f3", key=KEY)
    good = saved(signing, 3)
    signing.load(good.tag, good.sha256)
    unsigned, foreign = (saved(Registry(package, "f3f3f3", key=k), n) for n, k in
                         ((4, b""), (5, OTHER_KEY)))  # fmt: skip
    with pytest.raises(SnapshotError, match=f"{unsigned.tag}: is not signed"):
        signing.load(unsigned.tag, unsigned.sha256)
    with pytest.raises(SnapshotError, match=f"{foreign.tag}: its signature was not made"):
        signing.load(foreign.tag, foreign.sha256)
    Registry(package, "f3f3f3").load(foreign.tag, foreign.sha256)


def test_forged_whole(package: Package) -> None:
    """Whoever can write model store and database, but has no key, gets nothing served: neither
    bytes with their right hash nor bytes beside another adapter's signature."""
    shelf = AdapterStore()
    signing = Registry(package, "f4f4f4", shelf, KEY)
    good, forged = saved(signing, 3), saved(Registry(package, "f4f4f4", shelf), 4)
    shelf[forged.sha256] = shelf[forged.sha256][0], shelf[good.sha256][1]
    with pytest.raises(SnapshotError, match="signature was not made with the key in force"):
        signing.load(forged.tag, forged.sha256)


def test_signature_reaches_replicas(package: Package) -> None:
    """A replica takes a signed adapter from the shelf, and its own copy is signed as well."""
    shelf = AdapterStore()
    signing = Registry(package, "f5f5f5", shelf, KEY)
    snapshot = saved(signing)
    signing.delete(snapshot.tag)
    signing.load(snapshot.tag, snapshot.sha256)
    shelf.clear()
    signing.load(snapshot.tag, snapshot.sha256)


@pytest.mark.parametrize("shelf", [None, AdapterStore()], ids=["one store", "replicas"])
def test_signed_later(package: Package, shelf: AdapterStore | None) -> None:
    """What was made before there was a key loads once it is signed, and keeps what it told of
    itself; what is not what was promoted is not signed."""
    before, after = (Registry(package, "f6f6f6", shelf, key) for key in (b"", KEY))
    snapshot = saved(before)
    with pytest.raises(SnapshotError, match="bento-selfheal sign"):
        after.load(snapshot.tag, snapshot.sha256)
    after.sign(snapshot.tag, snapshot.sha256)
    after.load(snapshot.tag, snapshot.sha256)
    assert home_store().get(snapshot.tag).info.metadata["recipe"] == "replay"
    with pytest.raises(SnapshotError, match="hash"):
        after.sign(snapshot.tag, "ab" * 32)


def test_prune(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    """A replica drops old copies of what is kept no more, and nothing else."""
    registry = Registry(package, "f2f2f2", AdapterStore())
    kept, gone, young = (saved(registry, version) for version in (3, 4, 5))
    for old in (kept, gone):
        folder = file_of(old).parent
        os.utime(folder, (1.0, 1.0))
    vanished = file_of(gone).parent.with_name("f2f2f2-000006-post-heal")
    vanished.symlink_to("nowhere")  # as one that another process removes meanwhile
    registry.prune({kept.tag})
    assert caplog.messages == []
    assert {s.tag for s in (kept, gone, young) if (file_exists(s.tag))} == {kept.tag, young.tag}


def file_exists(tag: str) -> bool:
    name, version = tag.split(":")
    return (bentoml_home() / "models" / name / version).exists()
