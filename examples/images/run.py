"""Serves a network for images, inverts the images, and shows that late labels heal it.

python run.py
"""

from __future__ import annotations

import base64
import io
import os
import tempfile
import time
from collections import deque
from pathlib import Path

import httpx
import numpy as np
import torch
from network import Digits
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from bento_selfheal import Images, package_model
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.server import ServedService

HERE = Path(__file__).parent
SOURCE = Images(size=(16, 16), channels=1)
TRAIN, BATCH, LATE, BATCHES = 900, 25, 4, 60


def digits() -> tuple[list[Image.Image], list[int]]:
    """Images of digits, and which ones they are."""
    found = load_digits()
    grey = [Image.fromarray(np.uint8(image * 255 / 16)).resize((16, 16)) for image in found.images]
    return grey, found.target.tolist()


def trained(images: list[Image.Image], labels: list[int]) -> Digits:
    """The network, trained as any other."""
    torch.manual_seed(0)
    network = Digits()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x, y = SOURCE.gather(images), torch.tensor(labels)
    for _ in range(20):
        for some in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(network(x[some]), y[some]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network


def png(image: Image.Image) -> str:
    """An image as JSON holds it."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def settle(client: httpx.Client, labels: int) -> None:
    """Wait until so many labels have been learned: hours pass between batches in life."""
    while client.get("/status").json()["labels"]["joined"] < labels:
        time.sleep(0.05)


def main() -> None:
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    folder = Path(tempfile.mkdtemp())
    use_home(folder)
    images, labels = digits()
    network = trained(images[:TRAIN], labels[:TRAIN])

    package = package_model(
        "digits", images[:TRAIN], labels[:TRAIN], inputs=SOURCE, model=network, head="fc"
    )
    print(f"packaged {package.tag}: accuracy {package.info.accuracy:.3f} on held-out images")

    env = {"SELFHEAL_MODEL": package.tag, "PYTHONPATH": str(HERE), "SELFHEAL_WORKERS": "1"}
    with ServedService(
        "bento_selfheal.default_service:SelfHealing",
        home=folder, log=folder / "server.log", cwd=folder, env=env,
    ) as server, httpx.Client(base_url=server.url, timeout=30) as client:  # fmt: skip
        draw, owed = np.random.default_rng(0), deque[list[dict[str, object]]]()
        right: list[float] = []
        for batch in range(BATCHES):
            chosen = draw.integers(TRAIN, len(images), BATCH)
            seen = [images[i] if batch < 10 else ImageOps.invert(images[i]) for i in chosen]
            truth = [labels[i] for i in chosen]
            said = client.post("/predict", json={"rows": [png(image) for image in seen]}).json()
            right.append(float(np.mean(np.asarray(said["decisions"]) == truth)))
            items = zip(said["prediction_ids"], truth, strict=True)
            owed.append([{"prediction_id": i, "label": y} for i, y in items])
            if len(owed) > LATE:  # labels come a hundred images late
                client.post("/feedback", json={"items": owed.popleft()}).raise_for_status()
                settle(client, (batch + 1 - LATE) * BATCH)
        print(f"accuracy before the images were inverted: {np.mean(right[:10]):.2f}")
        print(f"just after:                               {np.mean(right[10:15]):.2f}")
        print(f"of the last ten batches:                  {np.mean(right[-10:]):.2f}")


if __name__ == "__main__":
    main()
