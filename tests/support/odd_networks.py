"""Networks with the habits that users' networks have, good and bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, HIDDEN = 6, 8


class Plain(nn.Module):
    """Two layers, and what a subclass does differently."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, HIDDEN)
        self.fc = nn.Linear(HIDDEN, outputs)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.body(x).relu())


class InPlace(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x.clamp_(-1, 1)).relu())


class Twice(Plain):
    """Doubles its inputs in place: called again with them, it would answer otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x.mul_(2)).relu())


class Looks(Plain):
    """Reads a tensor as an array when it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = torch.linspace(0, 1, 3).numpy().tolist()


class Flattens(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x.view(x.size(0), -1)).relu())


class Dict(Plain):
    def forward(self, rows: Tensor, scale: Tensor) -> Any:  # type: ignore[override]
        return {"logits": self.fc(self.body(rows * scale).relu())}


@dataclass
class Output:
    """As Hugging Face's models return it."""

    logits: Tensor


class Object(Plain):
    def forward(self, x: Tensor) -> Output:
        return Output(self.fc(self.body(x).relu()))


class Softmaxed(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).relu()).softmax(dim=1)


class ByName(Plain):
    """Calls its head with a named argument."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(input=self.body(x).relu())


class HalfInside(Plain):
    """Its body is of half the precision that its first layer has."""

    def __init__(self) -> None:
        super().__init__()
        fc, body = self.fc, self.body.half()
        del self.fc, self.body
        self.norm, self.body, self.fc = nn.LayerNorm(WIDTH), body, fc

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.norm(x).half()).relu().float())


class TwoViews(Plain):
    """Asks its head twice, as siblings that share it do."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).relu()) + self.fc(self.body(-x).relu())


class Infinite(Plain):
    """Embeds with what float16 does not hold."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x) * 1e6)


class OfBatches(Plain):
    """Normalises by the statistics of each batch, as if it were in training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.norm(x)).relu())


class Lazy(Plain):
    """Its first layer finds out its width when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LazyLinear(HIDDEN)


def called_lazy() -> Lazy:
    """One that was called."""
    network = Lazy()
    network(torch.zeros(1, WIDTH))
    return network


class Squeezed(Plain):
    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).relu()).squeeze(-1).sigmoid()


class Tied(nn.Module):
    """The head has the weights of the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, WIDTH)
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.fc.weight = self.body.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).relu())


class Recurrent(nn.Module):
    """A GRU over six steps of one number; its last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x.unsqueeze(-1))[1][-1])


class EachStep(Recurrent):
    """Its head is called with every step."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x.unsqueeze(-1))[0]).mean(dim=1)


class Draws(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.body(x) + torch.randn(len(x), HIDDEN)).relu())


class OfItsBatch(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x - x.mean(dim=0)).relu())


class Forgetful(Plain):
    """Keeps its scale outside its state dict."""

    scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x * self.scale).relu())


class Afterthought(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).relu()).flip(1) * 3


class Unused(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(HIDDEN, 2)


def ready(rows: list[list[float]]) -> dict[str, Tensor]:
    """Rows as a network of two named inputs wants them."""
    return {"rows": torch.tensor(rows), "scale": torch.ones(len(rows), 1)}


def pair(rows: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Rows as a network of two inputs wants them."""
    return torch.tensor(rows), torch.ones(len(rows), 1)
