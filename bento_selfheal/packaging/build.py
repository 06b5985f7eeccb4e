"""Builds a package: trains or takes a model, calibrates the signals, stores it all."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save_file
from torch import nn

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.records import Label
from bento_selfheal.core.tensors import hash_file
from bento_selfheal.embedding.source import Source
from bento_selfheal.errors import PackageError
from bento_selfheal.experts.race import Race
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.schema import described
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.calibration import calibrate
from bento_selfheal.packaging.embedded import embedded_rows, warn_if_wrong
from bento_selfheal.packaging.estimator.rows import EstimatorRows
from bento_selfheal.packaging.experts import teach
from bento_selfheal.packaging.model_store import new_model
from bento_selfheal.packaging.network.rows import NetworkRows
from bento_selfheal.packaging.opening import (
    EXPERTS,
    REFERENCE,
    WEIGHTS,
    build_model,
    open_package,
)
from bento_selfheal.packaging.package import (
    CANARY_ROWS,
    INFO,
    Package,
    PackageInfo,
    checked_probabilities,
)
from bento_selfheal.packaging.training import Training, best_epochs, fit, one_thread
from bento_selfheal.packaging.training_data import check_rows, classes_of, take
from bento_selfheal.rules import Rule, RuleSet
from bento_selfheal.scoring.scores import Scores

DEFAULT_BUILDER = "bento_selfheal.model:wide_mlp"
MIXED_BUILDER = "bento_selfheal.inputs.encoder:mixed_mlp"


def package_model(
    name: str,
    rows: Any,
    labels: Any,
    *,
    features: Sequence[str] = (),
    columns: Sequence[Column] = (),
    inputs: Source | None = None,
    facts: Mapping[str, Sequence[Any]] | None = None,
    sensitive: Sequence[str] | None = None,
    rules: Sequence[Rule] = (),
    model: nn.Module | None = None,
    estimator: Any = None,
    head: str = "",
    builder: str = "",
    builder_args: Mapping[str, Any] | None = None,
    training: Training | None = None,
    reference_share: float = 0.1,
    seed: int = 42,
) -> Package:
    """Package a model with its calibration and its reference set into the BentoML model store.

    With ``model`` and ``head``, a torch network of yours is packaged unchanged: the adapter heals
    between the named module and all that comes before it. With a `SelfHealingModel` as ``model``,
    that is packaged as it is. With ``estimator``, boosted trees or any other classifier of yours
    over the rows is packaged in its library's own file: its log odds are healed, with the scaled
    inputs beside them. Without either, the builder makes a model, which is trained here on all rows
    except the reference set.

    Args:
        name: Name in the model store; each call makes a new version.
        rows: Training data. A data frame of pandas or polars or a table of Arrow, whose columns are
            found out as those of a file are; an array or a tensor ``(n, features)`` of finite
            numbers, codes where there are columns. Of a network, its inputs: an array or a tensor
            ``(n, …)``, texts, images (also Pillow's), or values.
        labels: Class of each row, ``(n,)``, of two or more classes, kept in sorted order; a list,
            an array, a tensor, a column of any of these libraries, or the name of a column of the
            table. Of two classes the last one is class 1, whose probability is served.
        features: Names of the columns of a table; of a data frame, those to use.
        columns: Their types, in the same order, where not all are numbers without gaps.
        inputs: What the inputs of a network are: `Images`, `Texts`, `Tensors` or `Values`; not
            needed for rows of a table, or for an array ``(n, …)`` of numbers.
        facts: Named values of each input of a network, such as its country, ``(n,)`` each, as a
            dict or a table; rules and signals may look at them, and requests may bring them along.
        sensitive: Features that FIDI watches; None watches every feature that is not constant, and
            of hidden vectors those that spread most.
        rules: Symbolic rules, by feature name.
        model: A trained model; ``builder`` and ``builder_args`` must build the same architecture.
        estimator: A fitted classifier of XGBoost, LightGBM (also a booster of theirs) or
            scikit-learn, or an ONNX model, its bytes or its path; called with codes
            ``(n, columns)``, NaN where a value is missing.
        head: Name of the module that gives the answers of a network, such as ``fc``.
        builder: ``module:function`` that builds the architecture; imported when the package opens.
            The class of the network where it is not given.
        builder_args: Keyword arguments of the builder, JSON values only.
        training: How to train; ignored when ``model`` is given.
        reference_share: Share of the rows held out as reference set.
        seed: Seed of the split, the initial weights and the training order.

    Raises:
        PackageError: The parts do not fit together; the message names the part and its value.
    """
    rows, labels, features, columns = _taken(rows, labels, features, columns)
    embedded = embedded_rows(
        rows, labels, model=model, estimator=estimator, head=head, features=features,
        columns=columns, source=inputs, facts=facts, builder=builder, builder_args=builder_args,
    )  # fmt: skip
    own = model if isinstance(model, SelfHealingModel) else None
    if embedded is not None:
        rows, features, columns = embedded.rows, embedded.features, embedded.columns
        own, builder, builder_args = embedded.model, embedded.builder, embedded.builder_args
        sensitive = embedded.watched if sensitive is None else sensitive
    x, y, classes = _checked(rows, labels, features, columns)
    reference, train = _split(len(x), reference_share, seed)
    builder = builder or (MIXED_BUILDER if columns else DEFAULT_BUILDER)
    if builder_args is None:
        builder_args = _default_args(builder, x.shape[1], len(classes), columns)
    if own is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            own = build_model(builder, builder_args)
            plan, bound = training or Training(), _rule_set(rules, features, columns)
            if columns and plan.epochs is None:
                plan = replace(plan, epochs=best_epochs(own, x[train], y[train], plan, bound))
            fit(own, x[train], y[train], plan, bound)
    own = copy.deepcopy(own).cpu().requires_grad_(False).eval()
    _rebuild(builder, builder_args, own)
    probabilities = _reference_probabilities(own, x[reference], len(classes))
    scores = Scores.of(probabilities, y[reference])
    if embedded is not None or model is not None:
        warn_if_wrong(probabilities, y[reference], classes)
    info = PackageInfo(
        builder=builder,
        builder_args=dict(builder_args),
        output=own.output,
        features=list(features),
        classes=classes,
        calibration=calibrate(x, features, columns, sensitive),
        rules=list(rules),
        hidden_dim=own.reflexive.dim,
        positive_rate=float((y > 0).mean()),
        flagged_rate=float((decide_classes(probabilities) > 0).mean()),
        accuracy=scores.accuracy,
        f1=scores.f1,
        weights_sha256="",
        columns=list(columns),
    )
    _rule_set(info.rules, info.features, columns, len(classes))
    made = Package(name, info, own, x[reference], y[reference])
    older = np.sort(train)  # rows come oldest first
    with one_thread():
        race = teach(made, x[older], y[older])
    return open_package(_store(made, race, embedded))


def _taken(
    rows: Any, labels: Any, features: Sequence[str], columns: Sequence[Column]
) -> tuple[Any, NDArray[Any], Sequence[str], Sequence[Column]]:
    try:
        taken = take(rows, labels, features, columns)
    except ValueError as error:
        raise PackageError(str(error)) from error
    return taken.rows, taken.labels, taken.features, taken.columns


def _split(
    n: int, reference_share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows are the reference set, and which ones train."""
    order = np.random.default_rng(seed).permutation(n)
    held = max(CANARY_ROWS, int(n * reference_share))
    if n < held + 2:
        raise PackageError(f"rows: {n} rows are too few; at least {held + 2} are needed")
    return order[:held], order[held:]


def _reference_probabilities(
    model: SelfHealingModel, rows: NDArray[np.float32], classes: int
) -> NDArray[np.float32]:
    """The model's probabilities for the reference set; it must have one for each class."""
    probabilities = checked_probabilities(model, rows)
    width = probabilities.shape[1] if probabilities.ndim == 2 else 2
    if width != classes:
        raise PackageError(f"model: it predicts {width} classes, but the labels have {classes}")
    return probabilities


def _checked(
    rows: ArrayLike,
    labels: NDArray[Any],
    features: Sequence[str],
    columns: Sequence[Column],
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Label]]:
    if columns and [column.name for column in columns] != list(features):
        raise PackageError(f"columns: their names are not the features {list(features)}")
    try:
        x = check_rows(rows, features, columns)
    except ValueError as error:
        raise PackageError(str(error)) from error
    if labels.shape != (len(x),):
        raise PackageError(f"labels: shape {labels.shape} does not match {len(x)} rows")
    classes = classes_of(labels)
    if len(classes) < 2:
        raise PackageError(f"labels: at least two classes are needed, found {classes}")
    return x, np.unique(labels, return_inverse=True)[1].astype(np.float32), classes


def _default_args(
    builder: str, width: int, classes: int, columns: Sequence[Column]
) -> dict[str, Any]:
    many = {} if classes == 2 else {"classes": classes}
    if builder == MIXED_BUILDER:
        return {"inputs": described(columns), **many}
    return {"input_dim": width, **many} if builder == DEFAULT_BUILDER else {}


def _rebuild(builder: str, builder_args: Mapping[str, Any], model: SelfHealingModel) -> None:
    """Check that the builder builds a model that these weights fit."""
    with torch.random.fork_rng(devices=[]):
        like = build_model(builder, builder_args)
    try:
        like.load_state_dict(model.state_dict())
    except RuntimeError as error:
        if builder in (DEFAULT_BUILDER, MIXED_BUILDER):
            raise PackageError(
                "model: it is not of the default architecture, so it needs builder="
                "'module:function' and builder_args={…}, which build it anew when the package"
                f" opens: {error}"
            ) from error
        raise PackageError(f"builder: {builder!r} does not build the model: {error}") from error
    if like.output != model.output:
        raise PackageError(
            f"builder: its output is {like.output!r}, the model's is {model.output!r}"
        )


def _rule_set(
    rules: Sequence[Rule], features: Sequence[str], columns: Sequence[Column], classes: int = 0
) -> RuleSet:
    try:
        bound = RuleSet(list(rules), features, columns)
    except ValueError as error:
        raise PackageError(f"rules: {error}") from error
    strange = [str(rule) for rule in rules if classes and rule.target >= classes]
    if strange:
        raise PackageError(f"rules: {strange} name a class beyond the {classes} of the labels")
    return bound


def _store(made: Package, race: Race, embedded: NetworkRows | EstimatorRows | None) -> str:
    import bentoml  # the store's tags are BentoML's own

    tag, info = str(bentoml.Tag(made.tag).make_new_version()), made.info
    rows, labels = made.reference_rows, made.reference_labels
    summary = {
        "accuracy": round(info.accuracy, 4),
        **({"f1": round(info.f1, 4)} if made.binary else {}),
        "features": len(info.features),
        "classes": [str(c) for c in info.classes],
        "sensitive": [c.feature for c in info.calibration],
        "rules": [str(rule) for rule in info.rules],
        "reference_rows": len(rows),
    }
    with new_model(tag, labels={"selfheal": "package"}, metadata=summary) as folder:
        state = {k: v.contiguous() for k, v in made.model.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        save_file(race.state(), folder / EXPERTS)
        save_file(
            {"rows": torch.from_numpy(rows.copy()), "labels": torch.from_numpy(labels.copy())},
            folder / REFERENCE,
        )
        hashes: dict[str, Any] = {
            "weights_sha256": hash_file(folder / WEIGHTS),
            "experts_sha256": hash_file(folder / EXPERTS),
        }
        if embedded is not None:
            hashes["builder_args"] = embedded.write(folder)
        done = info.model_copy(update=hashes)
        (folder / INFO).write_text(json.dumps(done.model_dump(), indent=2) + "\n")
    return tag
