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

    def forward(self, x: Tensor) -> Tensor:
        """Scaled rows, ``(n, width)``, all finite, for codes ``(n, columns)``."""
        return super().forward(self.expand(x)).nan_to_num(nan=0.0)

    def fit(self, rows: Tensor) -> None:
        """Take the scale from the codes of rows, ``(n, columns)``; what is missing says nothing."""
        wide = self.expand(rows)
        usual = wide.nanmean(dim=0).nan_to_num(nan=0.0)
        super().fit(torch.where(wide.isnan(), usual, wide))

    def expand(self, codes: Tensor) -> Tensor:
        """One number and more for each code, ``(n, width)``; NaN where a number is missing."""
        parts = []
        for column, code in zip(self.inputs, codes.unbind(dim=1), strict=True):
            parts += _EXPAND[column.kind](column, code)
            if column.nullable:
                parts.append(code.isnan().to(code).unsqueeze(1))
        return torch.cat(parts, dim=1)


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


def _number(_: Column, code: Tensor) -> list[Tensor]:
    return [code.unsqueeze(1)]


def _category(column: Column, code: Tensor) -> list[Tensor]:
    known = min(len(column.levels), MOST_LEVELS)
    place = code.nan_to_num(nan=known + 1).clamp(max=known + 1).long()
    place = torch.where(code.isnan(), known + 1, place.clamp(max=known))
    return [nn.functional.one_hot(place, known + 2)[:, : known + 1].to(code)]


def _date(column: Column, code: Tensor) -> list[Tensor]:
    days = code.double() + column.origin
    turns = [2 * math.pi * days / period for period in PERIODS]
    return [torch.stack([f(t) for t in turns for f in (torch.sin, torch.cos)], dim=1).to(code)]


_EXPAND = {
    Kind.NUMBER: _number, Kind.INTEGER: _number, Kind.BOOLEAN: _number,
    Kind.CATEGORY: _category, Kind.DATETIME: _date,
}  # fmt: skip


def _width(column: Column) -> int:
    own = {Kind.CATEGORY: min(len(column.levels), MOST_LEVELS) + 1, Kind.DATETIME: 2 * len(PERIODS)}
    return own.get(column.kind, 1) + column.nullable
