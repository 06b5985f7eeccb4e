"""Probabilities of classes as tensors: a column for each, and rows that sum to 1."""

from __future__ import annotations

import torch
from torch import Tensor

SUM_TOLERANCE = 1e-4
"""How far the sum of a row's probabilities may be from 1 by rounding alone."""


def normalised(each: Tensor) -> Tensor:
    """Probabilities of many classes ``(n, classes)`` as ones that sum to 1.

    Those of a head with a sigmoid for each class do not. A row that sums to 1 but for rounding
    stays as it is, to the bit, and so does one with a value that is no probability, which is for
    others to refuse. A row of zeros knows nothing: all classes are as likely.
    """
    total = each.sum(dim=1, keepdim=True)
    apart = (total - 1).abs() > SUM_TOLERANCE
    apart = apart & ((each >= 0) & (each <= 1)).all(dim=1, keepdim=True)
    even = torch.full_like(each, 1 / each.shape[1])
    shared = torch.where(total > 0, each / total.clamp_min(torch.finfo(each.dtype).tiny), even)
    return torch.where(apart, shared, each)


def columns(probabilities: Tensor) -> Tensor:
    """One column per class, ``(n, classes)``, also of two classes."""
    if probabilities.ndim == 2:
        return probabilities
    return torch.stack([1 - probabilities, probabilities], dim=1)
