"""Short texts whose words change: descriptions of libraries first, then of programs.

Six topics, in `topics.csv`. A sentence encoder stays as it was published; four fifths of the
libraries train a linear head behind it. The other libraries and some 600 programs are answered, and
once more as raw text by a real service.
"""

from __future__ import annotations

import csv
import functools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from after_change import SEED, accuracies, finetuned, frozen_and_served
from minilm import MiniLM, pretrained, tokens
from numpy.typing import NDArray
from one_worker import one_worker
from topics_file import FILE, TOPICS
from torch.nn.functional import cross_entropy

from bento_selfheal import Texts
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.comparison import REQUEST_ROWS

TRAIN, AFTER = 0.8, 600
STEPS, HEAD_RATE, DECAY = 300, 0.05, 1e-4
RATES = (2e-5, 5e-5)
"""Learning rates of the network that fits all weights, a process for each; the best counts."""
POSTED = 200


def described(kind: str) -> tuple[list[str], NDArray[np.int64]]:
    """Descriptions in an order drawn by chance, and the places of their topics."""
    with FILE.open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["kind"] == kind]
    order = np.random.default_rng(SEED).permutation(len(found))
    places = {topic: place for place, topic in enumerate(TOPICS)}
    texts = [found[i]["description"] for i in order]
    return texts, np.array([places[found[i]["topic"]] for i in order])


def with_head(texts: list[str], labels: NDArray[np.int64]) -> MiniLM:
    """The published encoder with a head that is trained on these texts."""
    torch.manual_seed(SEED)
    network, seen = pretrained(len(TOPICS)), list[torch.Tensor]()
    hook = network.fc.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        for at in range(0, len(texts), 64):
            network(**tokens(texts[at : at + 64]))
    hook.remove()
    optimizer = torch.optim.Adam(network.fc.parameters(), lr=HEAD_RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(network.fc(torch.cat(seen)), torch.from_numpy(labels)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network


def words_that_change(home: Path) -> dict[str, Any]:
    """Accuracy after the change: frozen, served, and of all weights finetuned."""
    (texts, labels), (later, later_labels) = described("library"), described("program")
    start = int(TRAIN * len(texts))
    middle = len(texts) - start
    network = with_head(texts[:start], labels[:start])
    package = package_model(
        "topics", texts[:start], [list(TOPICS)[i] for i in labels[:start]],
        model=network, head="fc", inputs=Texts(prepare="minilm:tokens"),
        builder_args={"classes": len(TOPICS)},
    )  # fmt: skip
    after = AFTER - (middle + AFTER) % REQUEST_ROWS  # the last request is a whole one, too
    stream = texts[start:] + later[:after]
    truth = np.concatenate([labels[start:], later_labels[:after]])
    answers = frozen_and_served(package, stream, truth)
    fit = functools.partial(finetuned, network, tokens, stream, truth)
    with ProcessPoolExecutor(len(RATES), get_context("spawn")) as pool:
        peers = dict(zip(RATES, pool.map(fit, RATES), strict=True))
    best = max(peers, key=lambda rate: peers[rate][middle:].mean())
    return {
        "texts": after,
        **accuracies(middle, *answers, peers[best]),
        "finetuned_by_rate": {f"{r:g}": float(p[middle:].mean()) for r, p in peers.items()},
        "posted": posted(home, package, stream[:POSTED], answers[0][:POSTED], truth[:POSTED]),
    }


def posted(
    home: Path,
    package: Package,
    texts: list[str],
    right: NDArray[np.bool_],
    truth: NDArray[np.int64],
) -> dict[str, Any]:
    """Raw texts that a real service is sent, and how many answers are as right as offline."""
    kind = {"content-type": "text/plain"}
    with (
        one_worker(home, package) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        said = [
            client.post("/predict", content=text.encode(), headers=kind).raise_for_status().json()
            for text in texts
        ]
    topics = list(TOPICS)
    there = [one["decisions"] == [topics[i]] for one, i in zip(said, truth, strict=True)]
    return {"texts": len(texts), "as_offline": int((np.array(there) == right).sum())}
