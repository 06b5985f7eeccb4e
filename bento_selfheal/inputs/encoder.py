"""Turns the codes of a mixed table into scaled numbers, in front of the backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.model import ReflexiveLayer, SelfHealingModel, WideAndDeep, mlp_backbone
from bento_selfheal.standardize import Standardize

MOST_LEVELS = 32
"""Of a category that have a number of their own; the others share one."""
PERIODS = (1.0, 7.0, 365.2425)
"""Of a date, in days: the time of day, the day of the week, the season."""


class Encoder(Standardize):
    """Scaled numbers for rows of codes (`Column`).

    A number stays one number, and a missing one is the mean. A category has a number for each of
    its commonest levels, and one for all others, those never seen among them. A date is told by its
    place in the day, the week and the year; how long ago it is would only ever move away. Every
    column that may be empty has one more number, which says whether it is.

    Args:
        inputs: The columns, in the order of the codes.
    """

    def __init__(self, inputs: Sequence[Column]) -> None:
        width = sum(_width(column) for column in inputs)
        super().__init__(torch.zeros(width), torch.ones(width))
        self.inputs = list(inputs)
        for i, column in enumerate(inputs):
            if column.kind is Kind.CATEGORY:
                own = torch.arange(min(len(column.levels), MOST_LEVELS), dtype=torch.float32)
                self.register_buffer(f"commonest_{i}", own)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled rows, ``(n, width)``, all finite, for codes ``(n, columns)``."""
        return super().forward(self.expand(x)).nan_to_num(nan=0.0)

    def fit(self, rows: Tensor) -> None:
        """Take the scale from the codes of rows, ``(n, columns)``; what is missing says nothing."""
        for i, column in enumerate(self.inputs):
            if column.kind is Kind.CATEGORY:
                self._choose(i, rows[:, i], len(column.levels))
        wide = self.expand(rows)
        usual = wide.nanmean(dim=0).nan_to_num(nan=0.0)
        super().fit(torch.where(wide.isnan(), usual, wide))

    def expand(self, codes: Tensor) -> Tensor:
        """One number and more for each code, ``(n, width)``; NaN where a number is missing."""
        parts = []
        for i, (column, code) in enumerate(zip(self.inputs, codes.unbind(dim=1), strict=True)):
            if column.kind is Kind.CATEGORY:
                parts.append(self._levels(i, code))
            else:
                parts.append(_date(column, code) if column.kind is Kind.DATETIME else code[:, None])
            if column.nullable:
                parts.append(code.isnan().to(code).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def _choose(self, place: int, code: Tensor, levels: int) -> None:
        """Give the commonest levels a number of their own."""
        count = torch.bincount(code[code < levels].long(), minlength=levels)
        own = count.sort(descending=True, stable=True).indices[:MOST_LEVELS]
        setattr(self, f"commonest_{place}", own.to(torch.float32))

    def _levels(self, place: int, code: Tensor) -> Tensor:
        own = code[:, None] == getattr(self, f"commonest_{place}")
        others = ~(own.any(dim=1) | code.isnan())
        return torch.cat([own, others[:, None]], dim=1).to(code)


def mixed_mlp(
    inputs: Sequence[Mapping[str, Any]], hidden_dim: int = 64, classes: int = 2
) -> SelfHealingModel:
    """The default of `package_model` for mixed tables: `wide_mlp` behind an `Encoder`.

    Args:
        inputs: The columns, as JSON values of `Column`.
        hidden_dim: Width of the deep part.
        classes: Number of classes.
    """
    scale = Encoder([Column.model_validate(column) for column in inputs])
    seen = len(scale.mean)
    backbone = WideAndDeep(scale, mlp_backbone(seen, hidden_dim))
    width = hidden_dim + seen
    if classes > 2:
        head: nn.Module = nn.Linear(width, classes)
        return SelfHealingModel(backbone, ReflexiveLayer(width), head, "logit")
    head = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid())
    return SelfHealingModel(backbone, ReflexiveLayer(width), head)


def _date(column: Column, code: Tensor) -> Tensor:
    days = code.double() + column.origin
    turns = [2 * math.pi * days / period for period in PERIODS]
    return torch.stack([f(t) for t in turns for f in (torch.sin, torch.cos)], dim=1).to(code)


def _width(column: Column) -> int:
    own = {Kind.CATEGORY: min(len(column.levels), MOST_LEVELS) + 1, Kind.DATETIME: 2 * len(PERIODS)}
    return own.get(column.kind, 1) + column.nullable
