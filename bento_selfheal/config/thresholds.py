"""Thresholds and costs that belong to operations, and the file that holds them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

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


class ThresholdChanges(Thresholds):
    """New values of some of the thresholds; what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"example": {"miss_cost": 5.0, "capacity": 20}})

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("no_change", "name at least one threshold")
        return self

    def given(self) -> dict[str, float | None]:
        """The new values by name."""
        return self.model_dump(exclude_unset=True)


class ThresholdFile(WatchedFile[Thresholds]):
    """``threshold_config.json``, watched while the service runs.

    Args:
        path: The file; it is written with the defaults where it is missing.

    Attributes:
        taken_up: The newest command of operators that was in the file when a runner began to lead.
        found_with: The newest command that there was at that time.
        edited: Whether the runner's last look found an edit.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _parse, Thresholds())
        self.taken_up = self.found_with = 0
        self.edited = False
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_written(self.current))
            os.utime(path, (0, 0))  # nobody's edit, so it outweighs nothing that is asked for

    @property
    def changed_at(self) -> float:
        """When the file was changed last, in seconds since the epoch; 0 where there is none."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    @property
    def owner(self) -> str:
        """Name of the user whose file it is: the nearest to who has edited it."""
        try:
            return self.path.owner()
        except (OSError, KeyError):  # a container's user has no name
            return "unknown"

    def change(self, changes: Mapping[str, Any], at: float) -> None:
        """Write new values and put them in force.

        Args:
            changes: The new values by name.
            at: When they were asked for: the file counts as changed then, so that nothing is
                asked for twice.

        Raises:
            OSError: The file cannot be written; nothing has changed.
            ValidationError: A value does not fit; nothing has changed.
        """
        new = Thresholds.model_validate({**self.current.model_dump(), **changes})
        file = self.path.resolve()  # a link stays one
        beside = file.with_suffix(".part")
        beside.write_text(_written(new))
        os.utime(beside, (at, at))
        beside.replace(file)
        self.load()


def _written(thresholds: Thresholds) -> str:
    return json.dumps(thresholds.model_dump(), indent=2) + "\n"


def _parse(content: bytes) -> Thresholds:
    try:
        return Thresholds.model_validate_json(content)
    except ValidationError as error:
        raise SettingsError(describe(error)) from error
