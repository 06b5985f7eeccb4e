"""What stands frozen in front of what heals: a network or an estimator of the user's own."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.records import Label
from bento_selfheal.embedding.source import Source
from bento_selfheal.errors import PackageError
from bento_selfheal.inputs.column import Column
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.estimator.rows import EstimatorRows, estimated_rows
from bento_selfheal.packaging.network.rows import NetworkRows, embed_rows
from bento_selfheal.packaging.training_data import classes_of

log = logging.getLogger(__name__)

SURE = 3.0
"""Standard errors by which a model may be behind its commonest class by chance."""
TOLD = 10
"""Most classes that a warning names."""


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


def warn_if_wrong(
    probabilities: NDArray[np.float32], labels: NDArray[np.float32], classes: Sequence[Label]
) -> None:
    """Log a warning where a model is right less often than its commonest class would be alone.

    It usually names the classes in another order then. Only rows count that one of the two decides
    right and the other wrong (McNemar's test).

    Args:
        probabilities: What the model says of the reference rows, ``(n,)`` or ``(n, classes)``.
        labels: Indices of their classes, ``(n,)``.
        classes: The classes, in their order.
    """
    commonest = int(np.bincount(labels.astype(np.int64)).argmax())
    right, common = decide_classes(probabilities) == labels, labels == commonest
    lost, won = int((common & ~right).sum()), int((right & ~common).sum())
    if lost - won <= SURE * math.sqrt(lost + won):
        return
    order = ", ".join(map(repr, classes[:TOLD])) + (", …" if len(classes) > TOLD else "")
    log.warning(
        "the model is right on %.1f%% of %d reference rows; answering %r always would be right on "
        "%.1f%%. Its outputs are taken as the classes %s, in this order. Check that it was trained "
        "with the classes in this order, and that its inputs are prepared as in training. A model "
        "that was trained to find a rare class at the cost of false alarms is below, too.",
        100 * right.mean(), len(labels), classes[commonest], 100 * common.mean(), order,
    )  # fmt: skip
