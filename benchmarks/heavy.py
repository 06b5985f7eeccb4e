"""A heavy model, and what is measured of one: batches, and probes beside them."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from torch import Tensor, nn

from bento_selfheal.model import ReflexiveLayer, SelfHealingModel
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows

WIDTH, DEPTH, HIDDEN, FEATURES = 1536, 4, 64, 10
CLIENTS = 64
PROBES = 200


class Deep(nn.Module):
    """Wide layers that rows pass through again and again: the weights of one pass take 5 ms."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.passes = passes
        self.inner = nn.Linear(FEATURES, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.outer = nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        for _ in range(self.passes):
            for layer in self.layers:
                x = torch.relu(layer(x))
        out: Tensor = self.outer(x)
        return out


def deep_model(passes: int = 1) -> SelfHealingModel:
    """Builder of a model with a heavy backbone."""
    head = nn.Sequential(nn.Linear(HIDDEN, 1), nn.Sigmoid())
    return SelfHealingModel(Deep(passes), ReflexiveLayer(HIDDEN), head)


def package_deep(passes: int) -> Package:
    """A heavy model as it was born, packaged."""
    table = article_rows(120, 0.0, np.random.default_rng(1))
    torch.manual_seed(1)
    return package_model(
        f"deep-{passes}", table.rows, table.labels, features=ARTICLE_FEATURES,
        sensitive=["V14"], model=deep_model(passes), builder="heavy:deep_model",
        builder_args={"passes": passes},
    )  # fmt: skip


def call_ms(passes: int, rows: int) -> float:
    """Milliseconds of one call of the model on one thread, the shortest of ten."""
    torch.set_num_threads(1)
    model, x, times = deep_model(passes).eval(), torch.zeros(rows, FEATURES), []
    with torch.inference_mode():
        for _ in range(10):
            begun = time.perf_counter()
            model(x)
            times.append(time.perf_counter() - begun)
    return round(min(times) * 1000, 1)


def batched_rates(start: Callable[[], Any], body: bytes, seconds: float) -> tuple[float, float]:
    """Requests a second of `CLIENTS` clients with a row each, and the p99 in milliseconds."""
    with start() as port:
        _load(port, body, 2).communicate()  # warm; BentoML learns how long to wait
        out = _load(port, body, seconds).communicate()[0]
    return _answered(out)


def probes_ms(port: int, body: bytes, probes: int = PROBES) -> dict[str, float]:
    """Slowest and median of some answers of ``/livez`` and ``/feedback`` under that load."""
    item = {"features": json.loads(body)["rows"][0], "label": 0}
    running, slowest = _load(port, body, 300), {}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        calls: dict[str, Callable[[int], httpx.Response]] = {
            "livez": lambda _: client.get("/livez"),
            "feedback": lambda n: client.post(
                "/feedback", json={"items": [{**item, "key": str(n)}]}
            ),
        }
        for name, call in calls.items():
            times = []
            for n in range(probes):
                begun = time.perf_counter()
                call(n).raise_for_status()
                times.append((time.perf_counter() - begun) * 1000)
            slowest[f"{name}_slowest_ms"] = round(max(times), 1)
            slowest[f"{name}_p50_ms"] = round(float(np.median(times)), 1)
    if running.poll() is not None:
        raise RuntimeError("the load ended before the probes did")
    running.kill()
    running.communicate()
    return slowest


def _load(port: int, body: bytes, seconds: float) -> subprocess.Popen[str]:
    """Clients that ask again and again for so many seconds: wrk, in the background."""
    folder = Path(tempfile.mkdtemp())
    (folder / "body").write_bytes(body)
    script = folder / "post.lua"
    script.write_text(
        f'local f = io.open("{folder}/body", "rb")\n'
        'wrk.method = "POST"\nwrk.body = f:read("*a")\nf:close()\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}", "--timeout", "60", "--latency"]
    return subprocess.Popen(
        [*command, "-s", str(script), f"http://127.0.0.1:{port}/predict"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _answered(out: str) -> tuple[float, float]:
    """Requests a second and the p99 in milliseconds that wrk tells; none may have failed."""
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(out)
    rate, p99 = re.search(r"Requests/sec:\s+([\d.]+)", out), re.search(r"99%\s+([\d.]+)(\w+)", out)
    assert rate is not None
    assert p99 is not None
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}[p99.group(2)]
    return float(rate.group(1)), round(float(p99.group(1)) * unit, 1)
