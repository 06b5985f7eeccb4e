"""An estimator's own file in a package."""

from __future__ import annotations

from pathlib import Path

from bento_selfheal.core.tensors import hash_file
from bento_selfheal.errors import PackageError
from bento_selfheal.estimators.embedder import OddsEmbedder
from bento_selfheal.estimators.estimator import Estimator
from bento_selfheal.estimators.kinds import KINDS
from bento_selfheal.estimators.packaged import Estimated
from bento_selfheal.packaging.package import check_hash


def write_estimator(estimator: Estimator, folder: Path) -> str:
    """Write an estimator in its library's own format; the hash of its file."""
    estimator.save(path := folder / estimator.file)
    return hash_file(path)


def open_estimator(folder: Path, tag: str, noted: Estimated) -> OddsEmbedder:
    """What says log odds of rows, from the folder of a package.

    Raises:
        PackageError: The file is damaged, or its library is missing.
    """
    kind = KINDS[noted.kind]
    path = folder / kind.file
    check_hash(path, noted.sha256, tag)
    try:
        return OddsEmbedder(kind.open(path), noted.width)
    except PackageError as error:
        raise PackageError(f"{tag}: {error}") from error
