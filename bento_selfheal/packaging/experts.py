"""The experts of a package: taught on the training rows when it is made, and read from it later."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from bento_selfheal.core.class_probabilities import columns
from bento_selfheal.core.tensors import hash_file
from bento_selfheal.errors import PackageError
from bento_selfheal.experts.kinds.context import NEWEST
from bento_selfheal.experts.lesson import Lesson
from bento_selfheal.experts.race import Race
from bento_selfheal.packaging.package import Package

log = logging.getLogger(__name__)

MOST_ROWS = 5000
"""Training rows whose hidden vectors are computed: of more, all would fill the memory."""


def teach(package: Package, rows: NDArray[np.float32], labels: NDArray[np.float32]) -> Race:
    """A race whose experts know the training rows, and are scored on the reference set.

    Args:
        package: The packaged model.
        rows: Training rows, ``(n, features)``, oldest first.
        labels: Indices of their classes, ``(n,)``.
    """
    held = _lesson(package, package.reference_rows, package.reference_labels)
    rows, labels = rows[-MOST_ROWS:], labels[-MOST_ROWS:]
    older = _lesson(package, rows, labels) if len(rows) else None
    clean = held.hidden if older is None else torch.cat([older.hidden, held.hidden])
    race = Race(clean, len(package.info.classes), package.inputs)
    if older is not None:
        race.study(older)
        if package.inputs:
            race.surround(older.hidden[-NEWEST:, -package.inputs :])
    race.examine(held)
    return race


def open_race(package: Package) -> Race:
    """The race as it was when the package was made.

    A package of another release has none, or other ones: there the experts know the reference set
    alone.

    Raises:
        PackageError: The file cannot be read, or does not have the hash that is noted.
    """
    if package.experts is None:
        return _taught_on_the_reference_set(package)
    try:
        if hash_file(package.experts) != package.info.experts_sha256:
            raise RuntimeError("it does not have the hash that the package notes")
        state = load_file(package.experts)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise PackageError(f"{package.tag}: {package.experts.name}: {error}") from error
    race = Race(package.reference_hidden, len(package.info.classes), package.inputs)
    try:
        race.restore(state)
    except RuntimeError as error:
        log.warning(
            "%s holds the experts of another release (%s); the experts of this one know its "
            "reference set alone. Package the model again to teach them its training rows.",
            package.tag, error,
        )  # fmt: skip
        return _taught_on_the_reference_set(package)
    return race


def _taught_on_the_reference_set(package: Package) -> Race:
    return teach(package, package.reference_rows[:0], package.reference_labels[:0])


def _lesson(package: Package, rows: NDArray[np.float32], labels: NDArray[np.float32]) -> Lesson:
    frozen = columns(torch.from_numpy(package.baseline(rows)))
    return Lesson(package.embed(rows), frozen, torch.from_numpy(labels), torch.ones(len(labels)))
