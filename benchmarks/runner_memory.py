"""Memory of the healing runner: with the article's model, and with a network of 25 million weights.

The same rows, labels and heals; the network is asked about tensors, and its runner reads hidden
vectors of the same width as the article's. Real services in turns, a fresh one each time.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil
import torch
from large_network import Large
from one_worker import one_worker
from under_heals import give_labels
from worlds import package_article

from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.store import SqlStore

SEED, ROUNDS, HEALS = 42, 3, 5


def package_large() -> Package:
    """Such a network as it was born, packaged with the rows that the article's model learns."""
    table = article_rows(5000, 0.0, np.random.default_rng(SEED))
    torch.manual_seed(SEED)
    network = Large()
    return package_model("large", table.rows, table.labels, model=network, head="fc")


def runner_memory(home: Path) -> dict[str, Any]:
    """Megabytes of both runners after their heals and at their peak, medians, and the ratios."""
    packages = {"article": package_article(SEED), "large": package_large()}
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in packages}
    for turn in range(ROUNDS):
        for name, package in packages.items():
            seen[name].append(_healed(home, package, home / f"{name}-{turn}"))
    middle = {
        name: {kind: median(one[kind] for one in all_) for kind in ("after", "peak")}
        for name, all_ in seen.items()
    }
    ratios = {kind: middle["large"][kind] / middle["article"][kind] for kind in ("after", "peak")}
    return {**middle, "ratio": ratios, "weights": sum(p.numel() for p in Large().parameters())}


def _healed(home: Path, package: Package, state: Path) -> dict[str, float]:
    """Megabytes of a runner that has learned 2,000 labels and healed five times."""
    brisk = {"heal_share": "1", "runner_nice": "0"}
    with one_worker(home, package, state, **brisk) as server:
        give_labels(server.url)
        store = SqlStore(f"sqlite:///{state / 'selfheal.db'}")
        for _ in range(HEALS):
            _heal(store, server.url)
        store.close()
        return _megabytes(_runner_of(server))


def _heal(store: SqlStore, url: str) -> None:
    before = httpx.get(f"{url}/status").json()["heals"]
    store.add_command("heal")
    while httpx.get(f"{url}/status").json()["heals"] == before:
        time.sleep(0.05)


def _runner_of(server: ServedService) -> psutil.Process:
    [found] = [
        process
        for process in psutil.Process(server.process.pid).children(recursive=True)
        if "HealingRunner" in process.cmdline()
    ]
    return found


def _megabytes(process: psutil.Process) -> dict[str, float]:
    """What a process holds, and what it held at the most."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return {"after": int(sizes["VmRSS"]) / 1000, "peak": int(sizes["VmHWM"]) / 1000}
