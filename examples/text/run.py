"""Serves a network for texts, lets their words change, and shows that late labels heal it.

python run.py
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from pathlib import Path

import httpx
import numpy as np
import torch
from network import Tickets, tokens
from torch.nn.functional import cross_entropy

from bento_selfheal import Texts, package_model
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.server import ServedService

HERE = Path(__file__).parent
TRAIN, BATCH, LATE, BATCHES = 900, 25, 4, 32
WORDS = {
    "billing": ("invoice charged refund receipt price", "subscription renewal vat seats tariff"),
    "delivery": ("parcel courier late address lost", "download mirror stalled bandwidth installer"),
    "login": ("password locked email forgot account", "passkey authenticator sso device token"),
    "quality": ("broken scratched torn wrong colour", "crash freeze slow bug blank"),
}
"""By topic, what customers write of goods, and of software, which the shop sells later."""
FILLERS = (
    "please", "help", "my", "the", "since", "yesterday", "again", "still", "order", "I", "cannot",
    "was", "is", "and", "with",
)  # fmt: skip


def tickets(n: int, seed: int, goods: bool) -> tuple[list[str], list[str]]:
    """Texts that customers write, and their topics."""
    draw = np.random.default_rng(seed)
    topics = draw.choice(list(WORDS), n).tolist()
    texts = []
    for topic in topics:
        known = WORDS[topic][0 if goods else 1].split()
        words = [*draw.choice(known, 2, replace=False), *draw.choice(FILLERS, 5)]
        texts.append(" ".join(draw.permutation(words)))
    return texts, topics


def trained(texts: list[str], topics: list[str]) -> Tickets:
    """The network, trained as any other."""
    torch.manual_seed(0)
    network, known = Tickets(len(WORDS)), sorted(WORDS)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, y = tokens(texts), torch.tensor([known.index(topic) for topic in topics])
    for _ in range(20):
        for some in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(network(x[some]), y[some]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network


def settle(client: httpx.Client, labels: int) -> None:
    """Wait until so many labels have been learned: hours pass between batches in life."""
    while client.get("/status").json()["labels"]["joined"] < labels:
        time.sleep(0.05)


def main() -> None:
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    folder = Path(tempfile.mkdtemp())
    use_home(folder)
    texts, topics = tickets(TRAIN, seed=0, goods=True)
    network = trained(texts[:700], topics[:700])

    package = package_model(
        "tickets", texts[700:], topics[700:],  # which the network has not seen
        inputs=Texts(prepare="network:tokens"), model=network, head="fc",
        builder_args={"topics": len(WORDS)},
    )  # fmt: skip
    print(f"packaged {package.tag}: accuracy {package.info.accuracy:.3f} on held-out texts")

    env = {"SELFHEAL_MODEL": package.tag, "PYTHONPATH": str(HERE), "SELFHEAL_WORKERS": "1"}
    with ServedService(
        "bento_selfheal.default_service:SelfHealing",
        home=folder, log=folder / "server.log", cwd=folder, env=env,
    ) as server, httpx.Client(base_url=server.url, timeout=30) as client:  # fmt: skip
        plain = {"content-type": "text/plain"}
        said = client.post("/predict", content=b"My parcel is lost", headers=plain).json()
        print(f"'My parcel is lost' is about {said['decisions'][0]}")
        owed: deque[list[dict[str, object]]] = deque()
        right: list[float] = []
        for batch in range(BATCHES):
            asked, truth = tickets(BATCH, seed=1 + batch, goods=batch < 10)
            said = client.post("/predict", json={"rows": asked}).json()
            right.append(float(np.mean(np.asarray(said["decisions"]) == truth)))
            items = zip(said["prediction_ids"], truth, strict=True)
            owed.append([{"prediction_id": i, "label": y} for i, y in items])
            if len(owed) > LATE:  # labels come a hundred texts late
                client.post("/feedback", json={"items": owed.popleft()}).raise_for_status()
                settle(client, (batch + 1 - LATE) * BATCH)
        print(f"accuracy before the words changed: {np.mean(right[:10]):.2f}")
        print(f"just after:                        {np.mean(right[10:15]):.2f}")
        print(f"of the last ten batches:           {np.mean(right[-10:]):.2f}")


if __name__ == "__main__":
    main()
