"""A BentoML service that batches, as its documentation would have it written."""

import bentoml
import torch
from network import load_network


@bentoml.service(workers=1)
class Batched:
    def __init__(self) -> None:
        self.network = load_network()

    @bentoml.api(batchable=True, max_batch_size=100)
    def predict(self, rows: list[list[float]]) -> list[float]:
        with torch.inference_mode():
            return self.network(torch.tensor(rows)).tolist()
