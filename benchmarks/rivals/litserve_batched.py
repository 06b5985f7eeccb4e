"""LitServe with one worker that batches: a request is one row or more, a batch all their rows."""

import sys

import litserve
import torch
from litserve_app import Api


class BatchedApi(Api):
    def batch(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return inputs

    def predict(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes = [len(rows) for rows in inputs]
        return list(super().predict(torch.cat(inputs)).split(sizes))

    def unbatch(self, answers: list[torch.Tensor]) -> list[torch.Tensor]:
        return answers


if __name__ == "__main__":
    api = BatchedApi(max_batch_size=100, batch_timeout=float(sys.argv[2]))
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
