"""LitServe with one worker and its defaults."""

import sys

import litserve
import torch
from network import load_network


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.network = load_network()

    def decode_request(self, request: dict) -> torch.Tensor:
        return torch.tensor(request["rows"])

    def predict(self, rows: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.network(rows)

    def encode_response(self, answers: torch.Tensor) -> dict:
        return {"probabilities": answers.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Api(), accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
