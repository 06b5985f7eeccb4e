"""Logistic regression around another model's log odds: the best weights, of few or many classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bento_selfheal.scoring.logistic import MOST_TOGETHER, fit

TERMS = 2


def _made(classes: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log odds that are twice too steep, their basis, and labels."""
    draw = torch.Generator().manual_seed(1)
    true = torch.randn(rows, classes, dtype=torch.float64, generator=draw)
    drawn = torch.multinomial(true.softmax(dim=1), 1, generator=draw)[:, 0]
    said = 2 * true
    basis = torch.stack([torch.ones_like(said), said], dim=2)
    return said, basis, torch.nn.functional.one_hot(drawn, classes)


def _loss(offset: Tensor, basis: Tensor, truth: Tensor, theta: Tensor) -> Tensor:
    z = offset + torch.einsum("nki,ki->nk", basis, theta)
    return (z.logsumexp(dim=1) - (truth * z).sum(dim=1)).sum() + theta.square().sum() / 2


@pytest.mark.parametrize(
    ("classes", "rows", "missed"), [(3, 500, 1e-4), (MOST_TOGETHER // TERMS + 1, 300, 0.02)]
)
def test_fits(classes: int, rows: int, missed: float) -> None:
    """The weights are those that torch's own minimiser finds; of very many, nearly."""
    offset, basis, truth = _made(classes, rows)
    start = torch.zeros(classes, TERMS, dtype=torch.float64)
    ridge = torch.ones(TERMS, dtype=torch.float64)
    found = fit(offset, basis, truth, torch.ones(rows, dtype=torch.float64), ridge, start)
    best = start.clone().requires_grad_()
    minimiser = torch.optim.LBFGS([best], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        minimiser.zero_grad()
        loss = _loss(offset, basis, truth, best)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    minimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        before, ours, least = (_loss(offset, basis, truth, t) for t in (start, found, best))
    assert ours - least <= missed * (before - least)
