"""A damaged snapshot is never served, whatever is wrong with it: what served before, or the next
best one, does, and an event says what is damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from deployed import Deployed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs import drifting
from safetensors.torch import load, save
from snapshots import adapter, file_of
from steps import BATCH, send

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import NewSnapshot, Phase, Promotion, Snapshot
from bento_selfheal.errors import SnapshotError
from bento_selfheal.packaging.adapters import CANARY_TOLERANCE, Registry
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.serving.worker import Worker
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows

pytestmark = pytest.mark.faults

REGIONS = ("length", "header", "data")
EXAMPLES = settings.default.max_examples


@pytest.fixture(scope="module")
def registry(package: Package) -> Registry:
    return Registry(package, "dadada")


@pytest.fixture(scope="module")
def snapshot(registry: Registry) -> Snapshot:
    return registry.save(
        NewSnapshot(3, Phase.POST, heal=1, batch=1, reason="to be damaged"),
        adapter(registry.package),
    )


@contextmanager
def holding(file: Path, blob: bytes) -> Iterator[None]:
    """The file with other bytes for as long as the block lasts."""
    whole = file.read_bytes()
    file.write_bytes(blob)
    try:
        yield
    finally:
        file.write_bytes(whole)


def place_in(blob: bytes, region: str, at: float) -> int:
    """A byte of one region of a safetensors file; ``at`` from 0 to 1 says which."""
    header = 8 + int.from_bytes(blob[:8], "little")
    first, last = {"length": (0, 8), "header": (8, header), "data": (header, len(blob))}[region]
    return first + min(int(at * (last - first)), last - first - 1)


def damaged(blob: bytes, how: str, region: str, at: float, bit: int) -> bytes:
    """The file after one fault in one region."""
    place = place_in(blob, region, at)
    if how == "truncated":
        return blob[:place]
    if how == "zeroed":  # a block that never reached the disk
        return blob[:place] + bytes(len(blob) - place)
    flipped = bytearray(blob)
    flipped[place] ^= 1 << bit
    return bytes(flipped)


faults = st.tuples(
    st.sampled_from(["truncated", "zeroed", "flipped"]),
    st.sampled_from(REGIONS),
    st.floats(0, 1),
    st.integers(0, 7),
)


@given(fault=faults)
def test_any_damage(
    registry: Registry, snapshot: Snapshot, fault: tuple[str, str, float, int]
) -> None:
    """A file cut off, zeroed from a place on or with one bit flipped, in any region, is refused by
    its tag."""
    file = file_of(snapshot)
    blob = damaged(file.read_bytes(), *fault)
    if blob == file.read_bytes():
        return  # zeros were there before
    with holding(file, blob), pytest.raises(SnapshotError, match=snapshot.tag):
        registry.load(snapshot.tag, snapshot.sha256)


@given(fault=faults)
def test_damage_before_the_hash(
    registry: Registry, snapshot: Snapshot, fault: tuple[str, str, float, int]
) -> None:
    """Bytes that were damaged before they were hashed are refused as a SnapshotError too, or they
    answer the canary batch as ever."""
    file = file_of(snapshot)
    blob = damaged(file.read_bytes(), *fault)
    with holding(file, blob):
        try:
            model = registry.load(snapshot.tag, hashlib.sha256(blob).hexdigest())
        except SnapshotError:
            return
    kept = load(file.read_bytes())["canary"]
    with torch.no_grad():
        answers = model(registry.package.canary)
    assert torch.allclose(answers, kept, atol=2 * CANARY_TOLERANCE)


# -- worker and runner on a service that was healed ------------------------------------------------


class Healed:
    """A service that has promoted more than once, at rest.

    Args:
        settings: Of the service.
        promotions: Of each snapshot the newest, oldest first.
        foreign: An adapter of another packaged model, as a file.
    """

    def __init__(self, settings: Settings, promotions: list[Promotion], foreign: bytes) -> None:
        self.settings, self.promotions, self.foreign = settings, promotions, foreign

    @property
    def newest(self) -> Promotion:
        return self.promotions[-1]

    @property
    def next_best(self) -> int:
        """The version that served before."""
        return self.promotions[-2].version


@pytest.fixture(scope="module")
def healed(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Healed:
    own = Settings(model=package.tag, state_dir=tmp_path_factory.mktemp("healed"),
                   batch_size=BATCH, lease_seconds=60, snapshots_kept=100)  # fmt: skip
    service = Deployed(own)
    runner = service.runner()
    send(service.worker, *drifting(), drain=runner)
    service.store.release_lease(runner.owner)
    promotions = service.store.servable()
    service.close()
    assert len(promotions) > 2
    return Healed(own, promotions, _foreign())


def _foreign() -> bytes:
    table = article_rows(300, 0.0, np.random.default_rng(8))
    other = package_model("foreigner", table.rows, table.labels, features=ARTICLE_FEATURES,
                          training=Training(epochs=1))  # fmt: skip
    made = Registry(other, "f0e1d2").save(
        NewSnapshot(1, Phase.CLEAN, heal=0, batch=0, reason="packaged"), other.model.adapter_state()
    )
    return file_of(made).read_bytes()


@pytest.fixture
def copy(healed: Healed, tmp_path: Path) -> Callable[[], Settings]:
    """Gives the settings of one copy of the healed service's state after the other."""

    def make() -> Settings:
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with (
            closing(sqlite3.connect(healed.settings.state_dir / "selfheal.db")) as source,
            closing(sqlite3.connect(folder / "selfheal.db")) as target,
        ):
            source.backup(target)
        return healed.settings.model_copy(update={"state_dir": folder})

    return make


def rewritten(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[bytes], bytes]:
    def damage(blob: bytes) -> bytes:
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        tensors = load(blob)
        change(tensors)
        return save(tensors, metadata=header["__metadata__"])

    return damage


def _nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["adapter.0.weight"][0, 0] = float("nan")


def _shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["adapter.0.bias"] = torch.zeros(3)


def _other(tensors: dict[str, torch.Tensor]) -> None:
    tensors["adapter.2.bias"] += 1.0


NAMED = {"nan": rewritten(_nan), "shape": rewritten(_shape), "other weights": rewritten(_other)}
harms = st.one_of(
    faults.map(lambda fault: ("damaged", lambda blob: damaged(blob, *fault))),
    st.sampled_from([*NAMED.items(), ("missing", None), ("foreign", None)]),
)
Harm = tuple[str, Callable[[bytes], bytes] | None]


@contextmanager
def harmed(healed: Healed, own: Settings, harm: Harm, *, signed: bool) -> Iterator[None]:
    """The newest promotion's snapshot with a fault; ``signed``: promoted with the fault's hash."""
    name, damage = harm
    file = file_of(healed.newest)  # type: ignore[arg-type]
    whole = file.read_bytes()
    blob = healed.foreign if name == "foreign" else damage(whole) if damage else whole
    if signed and name != "damaged":
        with closing(sqlite3.connect(own.state_dir / "selfheal.db")) as c, c:
            c.execute("update promotions set sha256 = ? where seq = ?",
                      (hashlib.sha256(blob).hexdigest(), healed.newest.seq))  # fmt: skip
    with holding(file, blob):
        if name == "missing":
            file.unlink()
        yield


@pytest.mark.slow
@settings(
    max_examples=max(EXAMPLES // 10, 10), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every call is a new copy
)  # fmt: skip
@given(harm=harms, signed=st.booleans())
def test_next_best_serves(
    healed: Healed, copy: Callable[[], Settings], harm: Harm, signed: bool
) -> None:
    """Started on a damaged champion, workers serve the one before it and say why; the runner writes
    that one as a rollback, and heals go on from it."""
    own = copy()
    with harmed(healed, own, harm, signed=signed):
        service = Deployed(own)
        try:
            answers_with_the_next_best(healed, service.worker)
            runner = service.runner()
            runner.step()
            newest = service.store.newest_promotion()
            assert newest is not None
            assert (newest.kind.value, newest.version) == ("rollback", healed.next_best)
            before = service.store.status()["heals"]
            rows, labels = drifting(seed=4, clean=0, drifted=4 * BATCH)
            send(service.worker, rows, labels, drain=runner)
            assert service.store.status()["heals"] > before
        finally:
            service.close()


def answers_with_the_next_best(healed: Healed, worker: Worker) -> None:
    tag, version = healed.newest.tag, healed.newest.version
    rows = drifting()[0][:5]
    served = worker.answer(rows)
    expected = worker.follower.load(
        *next((p.tag, p.sha256) for p in healed.promotions if p.version == healed.next_best)
    )
    with torch.no_grad():
        assert torch.equal(torch.from_numpy(served.probabilities), expected(torch.from_numpy(rows)))
    assert served.champion.version == healed.next_best
    refused = [e.detail for e in worker.store.events() if e.kind == "refused"]
    assert refused[-1]["version"] == version
    assert tag in refused[-1]["reason"]
