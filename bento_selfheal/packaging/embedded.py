"""What stands frozen in front of what heals: a network or an estimator of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray
from torch import nn

from bento_selfheal.core.records import Label
from bento_selfheal.embedding.embedder import Embedder
from bento_selfheal.embedding.source import Source
from bento_selfheal.errors import PackageError
from bento_selfheal.estimators.embedder import OddsEmbedder
from bento_selfheal.estimators.packaged import Estimated
from bento_selfheal.inputs.column import Column
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.estimator.rows import EstimatorRows, estimated_rows, open_estimator
from bento_selfheal.packaging.model_store import find_model
from bento_selfheal.packaging.network.rows import NetworkRows, embed_rows
from bento_selfheal.packaging.network.weights import open_network
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training_data import classes_of

AnyEmbedder = Embedder | OddsEmbedder


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


def open_embedder(package: Package) -> AnyEmbedder | None:
    """What makes rows of the inputs of a package; None where rows are a table's.

    Raises:
        PackageError: It is damaged, or cannot be opened here.
    """
    if (noted := package.info.embedding) is None:
        return None
    folder = Path(find_model(package.tag).path)
    if isinstance(noted, Estimated):
        return open_estimator(folder, package.tag, noted)
    return open_network(package, folder, noted)
