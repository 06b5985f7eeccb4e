"""Answers as they would be if the model knew how right it is on rows that it reads differently."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.scoring.logistic import fit

LEAST = 1e-6
RIDGE = 1.0


def recalibrated(
    answers: NDArray[np.float32], labels: NDArray[np.float32], of: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Probabilities with log odds that are shifted and scaled, class by class, to fit the labels
    (vector scaling, Guo et al. 2017).

    A network is less sure of an image or text that it was not trained on than it says; its hidden
    vector does not tell. What a shift and a scale explain is therefore due to the input.

    Args:
        answers: What the frozen model says, ``(n,)`` or ``(n, classes)``.
        labels: Classes, ``(n,)``.
        of: Rows that are fitted, ``(n,)``.
    """
    p = torch.from_numpy(answers).double().clamp(LEAST, 1 - LEAST)
    two = p.ndim == 1
    offset = torch.logit(p)[:, None] if two else p.log()
    basis = torch.stack([torch.ones_like(offset), offset], dim=2)
    classes = torch.from_numpy(labels).long()
    truth = classes if two else torch.nn.functional.one_hot(classes, p.shape[1])
    own = torch.from_numpy(of)
    theta = fit(
        offset[own], basis[own], truth[own], torch.ones(int(own.sum()), dtype=torch.double),
        torch.full((2,), RIDGE, dtype=torch.double),
        torch.zeros((offset.shape[1], 2), dtype=torch.double),
    )  # fmt: skip
    z = offset + torch.einsum("nki,ki->nk", basis, theta)
    said = torch.sigmoid(z)[:, 0] if two else torch.softmax(z, dim=1)
    return np.asarray(said.numpy(), dtype=np.float32)
