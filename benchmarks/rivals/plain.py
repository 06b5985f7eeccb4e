"""A plain BentoML service, as its documentation would have it written, with default settings."""

import bentoml
import torch
from network import load_network


@bentoml.service(workers=1)
class Plain:
    def __init__(self) -> None:
        self.network = load_network()

    @bentoml.api
    async def predict(self, rows: list[list[float]]) -> list[float]:
        with torch.inference_mode():
            return self.network(torch.tensor(rows)).tolist()
