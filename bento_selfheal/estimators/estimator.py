"""What an estimator is: a frozen ensemble of another library, asked for its log odds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError
from bento_selfheal.inputs.column import Column

Kind = Literal["xgboost", "lightgbm", "onnx"]
"""As a package notes it; also the name of the extra that brings the library."""


class Estimator(ABC):
    """A classifier over the codes of a table's rows; nothing in it changes.

    It is kept in its library's own file, and asked with one thread: workers are many, and each is
    asked about few rows.

    Attributes:
        file: Name of its file in a package.
        features: How many columns it takes; 0 where it does not say.
        names: Their names; none where it does not know them.
    """

    file: ClassVar[str]
    features: int
    names: list[str]

    @classmethod
    @abstractmethod
    def open(cls, path: Path) -> Self:
        """Read it from its file.

        Raises:
            PackageError: Its library is not installed, or cannot read the file.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write its file."""

    def categories(self, columns: Sequence[Column]) -> Mapping[int, Sequence[Any]]:
        """By the place of a column its categories, as of a data frame that it was fitted on; none
        where it was fitted on codes.

        Args:
            columns: The columns that it is to be called with, as many as it takes.

        Raises:
            PackageError: It does not say which of the columns its categories belong to.
        """
        return {}

    @abstractmethod
    def log_odds(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """What it says of rows: ``(n, 1)`` of two classes, else ``(n, classes)``, centred.

        Args:
            codes: Codes of rows, ``(n, columns)``, of one or more; NaN where a value is missing.
        """


def library(name: str, extra: str) -> Any:
    """A library of an estimator, imported when it is needed.

    Raises:
        PackageError: It is not installed; the message names the extra that brings it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise PackageError(
            f"estimator: {name} is needed: pip install 'bento-selfheal[{extra}]' ({error})"
        ) from error
