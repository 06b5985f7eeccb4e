"""The article's design as a BentoML service: one lock around predict and the whole heal.

While the file ``ARTICLE_SWITCH`` exists, heals run back to back: five full-batch steps on 100 rows,
a snapshot before and one after, all under the lock that predictions wait for. What is loaded at the
start is frozen for the garbage collector, whose stalls of 0.3 s would hide those of the lock.
"""

import gc
import os
import threading
from pathlib import Path

import bentoml
import numpy as np
import torch
from network import load_network
from safetensors.torch import save_file

STEPS, ROWS = 5, 100


@bentoml.service(workers=2)
class Article:
    def __init__(self) -> None:
        self.network = load_network()
        self.lock = threading.Lock()
        self.healed = 0
        gc.freeze()
        self.switch = Path(os.environ["ARTICLE_SWITCH"])
        threading.Thread(target=self.heal_on_and_on, daemon=True).start()

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[float]:
        with self.lock, torch.inference_mode():
            return self.network(torch.tensor(rows)).tolist()

    def heal_on_and_on(self) -> None:
        draw = np.random.default_rng(0)
        wait = threading.Event()
        while not wait.wait(0.002):
            if self.switch.exists():
                rows = torch.from_numpy(draw.normal(size=(ROWS, 10)).astype(np.float32))
                labels = torch.from_numpy((draw.random(ROWS) < 0.15).astype(np.float32))
                with self.lock:
                    self.heal(rows, labels)

    def heal(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        self.network.requires_grad_(False)
        self.network.reflexive.requires_grad_(True)
        self.snapshot("pre")
        optimizer = torch.optim.Adam(self.network.reflexive.parameters(), lr=0.003)
        for _ in range(STEPS):
            optimizer.zero_grad()
            p = self.network(rows).clamp(1e-6, 1 - 1e-6)
            torch.nn.functional.binary_cross_entropy(p, labels).backward()
            optimizer.step()
        self.snapshot("post")
        self.healed += 1

    def snapshot(self, phase: str) -> None:
        state = {k: v.clone() for k, v in self.network.reflexive.state_dict().items()}
        save_file(state, self.switch.parent / f"{os.getpid()}-{phase}.safetensors")
