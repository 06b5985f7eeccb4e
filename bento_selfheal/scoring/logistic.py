"""Weighted logistic regression around the log odds of another model.

The log odds are ``offset + basis @ weights``, of two classes or, with a softmax, of many, fitted
by penalised maximum likelihood. The ridge pulls the weights to zero and so the answer to the
offset.
"""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 4.0
"""Standard deviations beyond which a term no longer grows."""
STEPS = 25
LEAST_STEP = 1e-3
LEAST_GAIN = 1e-6
MOST_TOGETHER = 2000
"""Weights that a step moves together. Of more, it moves those of each column by themselves: the
curvature without what columns have in common is never too small, so such a step still descends."""


def fit(
    offset: Tensor, basis: Tensor, truth: Tensor, weights: Tensor, ridge: Tensor, start: Tensor
) -> Tensor:
    """Newton's method with halved steps on a convex loss, from ``start`` on.

    Args:
        offset: Log odds of the other model, ``(n, columns)``; one column for two classes.
        basis: Terms of each row and column, ``(n, columns, terms)``.
        truth: Labels, 0 or 1, ``(n, columns)``, or ``(n,)`` of two classes.
        weights: Weight of each row, ``(n,)``.
        ridge: Penalty on each term's square, ``(terms,)``, above 0.
        start: First weights, ``(columns, terms)``.

    Returns:
        Weights, ``(columns, terms)``.
    """
    truth = truth.double().reshape(offset.shape)
    theta, z = start, _odds(offset, basis, start)
    now = _loss(z, truth, weights, ridge, theta)
    for _ in range(STEPS):
        step, size = _newton_step(z, basis, truth, weights, ridge, theta), 1.0
        while True:
            moved = theta - size * step
            z = _odds(offset, basis, moved)
            if not (then := _loss(z, truth, weights, ridge, moved)) > now:
                break
            size /= 2
            if size < LEAST_STEP:
                return theta
        theta = moved
        before, now = now, then
        if before - now < LEAST_GAIN * max(abs(now), 1.0):
            break
    return theta


def _odds(offset: Tensor, basis: Tensor, theta: Tensor) -> Tensor:
    return offset + torch.einsum("nki,ki->nk", basis, theta)


def _loss(z: Tensor, truth: Tensor, weights: Tensor, ridge: Tensor, theta: Tensor) -> float:
    whole = torch.nn.functional.softplus(z[:, 0]) if z.shape[1] == 1 else z.logsumexp(dim=1)
    loss = (weights * (whole - (truth * z).sum(dim=1))).sum()
    return float(loss + (ridge * theta.square()).sum() / 2)


def _newton_step(
    z: Tensor, basis: Tensor, truth: Tensor, weights: Tensor, ridge: Tensor, theta: Tensor
) -> Tensor:
    columns, terms = theta.shape
    if columns == 1:
        p = torch.sigmoid(z)
        flat = basis[:, 0]
        gradient = (flat.T @ (weights * (p - truth)[:, 0])).unsqueeze(0)
        curvature = (flat * (weights * (p * (1 - p))[:, 0]).unsqueeze(1)).T @ flat
    else:
        p = torch.softmax(z, dim=1)
        gradient = torch.einsum("n,nk,nki->ki", weights, p - truth, basis)
        own = torch.einsum("n,nk,nki,nkj->kij", weights, p, basis, basis)
        if columns * terms > MOST_TOGETHER:
            apart: Tensor = torch.linalg.solve(own + torch.diag(ridge), gradient + ridge * theta)
            return apart
        mixed = (p.unsqueeze(2) * basis).flatten(1)
        curvature = -((mixed * weights.unsqueeze(1)).T @ mixed)
        each = torch.arange(columns)
        curvature.reshape(columns, terms, columns, terms)[each, :, each, :] += own
    gradient = gradient + ridge * theta
    curvature = curvature + torch.diag(ridge.repeat(columns))
    step: Tensor = torch.linalg.solve(curvature, gradient.reshape(-1))
    return step.reshape(columns, terms)
