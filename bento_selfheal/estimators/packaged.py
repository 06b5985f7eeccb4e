"""What a package notes of the estimator that stands in front of what heals."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.estimators.estimator import Kind
from bento_selfheal.inputs.column import Column


class Estimated(BaseModel):
    """A frozen estimator.

    Its rows are its log odds, with the table's codes behind them: those are logged, watched and
    learned from, and the healing runner never loads the estimator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: TableRows = TableRows()
    kind: Kind
    odds: tuple[str, ...]
    """Names of the columns of log odds, which are the first ones of a row"""
    columns: tuple[Column, ...]
    """Of the table"""
    sha256: str = ""
    """Of the estimator's file"""

    @property
    def width(self) -> int:
        """How many of the first columns of a row are log odds."""
        return len(self.odds)
