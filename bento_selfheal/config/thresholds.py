"""Thresholds and costs that belong to operations, and the file that holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bento_selfheal.config.validation import Float, Positive, Share, describe
from bento_selfheal.config.watched_file import WatchedFile
from bento_selfheal.errors import SettingsError


class Thresholds(BaseModel):
    """When to roll back and what mistakes cost. They belong to operations, not to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rollback_f1_drop: Share = 0.08
    """With two classes: roll back when the rolling mean of F1 is this far below the baseline's."""
    rollback_acc_drop: Share = 0.10
    """Roll back when the rolling mean of accuracy is this far below the baseline's. With more than
    two classes it is all that counts: F1 is that of one class."""
    miss_cost: Positive = 1.0
    """Cost of a missed row of class 1, in any unit."""
    alarm_cost: Positive = 1.0
    """Cost of a false alarm, in the same unit."""
    capacity: Annotated[Float, Field(gt=0, lt=1000, allow_inf_nan=False)] | None = None
    """Rows in 1,000 that may be flagged. With a capacity, the costs do not matter."""

    @property
    def bayes_threshold(self) -> float:
        """The probability above which a false alarm is the cheaper mistake."""
        return self.alarm_cost / (self.alarm_cost + self.miss_cost)


class ThresholdFile(WatchedFile[Thresholds]):
    """``threshold_config.json``, watched while the service runs.

    Args:
        path: The file; it is written with the defaults where it is missing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _parse, Thresholds())
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.current.model_dump(), indent=2) + "\n")


def _parse(content: bytes) -> Thresholds:
    try:
        return Thresholds.model_validate_json(content)
    except ValidationError as error:
        raise SettingsError(describe(error)) from error
