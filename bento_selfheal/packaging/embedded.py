"""What stands frozen in front of what heals: a network or an estimator of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray
from torch import nn

from bento_selfheal.core.records import Label
from bento_selfheal.embedding.source import Source
from bento_selfheal.errors import PackageError
from bento_selfheal.inputs.column import Column
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.estimator.rows import EstimatorRows, estimated_rows
from bento_selfheal.packaging.network.rows import NetworkRows, embed_rows
from bento_selfheal.packaging.training_data import classes_of


def embedded_rows(
    rows: ArrayLike | Sequence[Any],
    labels: Sequence[Label] | NDArray[Any],
    *,
    model: nn.Module | None,
    estimator: Any,
    head: str,
    features: Sequence[str],
    columns: Sequence[Column],
    source: Source | None,
    facts: Mapping[str, Sequence[Any]] | None,
    builder: str,
    builder_args: Mapping[str, Any] | None,
) -> NetworkRows | EstimatorRows | None:
    """Try what is frozen on the training inputs, and make rows of them; as `package_model` takes
    them. None where the rows are those that heal.

    Raises:
        PackageError: It does not fit the rows, or some of the arguments do not go together.
    """
    if model is not None and not isinstance(model, SelfHealingModel) and estimator is None:
        return embed_rows(
            model, head, rows, features=features, columns=columns, source=source, facts=facts,
            builder=builder, builder_args=builder_args or {},
        )  # fmt: skip
    if head or source is not None or facts:
        raise PackageError("head, inputs and facts belong to a torch network given as model")
    if estimator is None:
        return None
    if model is not None or builder or builder_args:
        raise PackageError("estimator: it takes the place of model, builder and builder_args")
    return estimated_rows(
        estimator, rows, features=features, columns=columns, classes=classes_of(labels)
    )
