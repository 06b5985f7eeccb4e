"""Operations' own thresholds and costs, and the file that holds them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bento_selfheal.config.validation import Positive, Share, describe
from bento_selfheal.errors import SettingsError

log = logging.getLogger(__name__)


class Thresholds(BaseModel):
    """Operations' own: when to roll back and what mistakes cost, apart from the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rollback_f1_drop: Share = 0.08
    """F1 this far below the baseline, as a rolling mean, rolls back."""
    rollback_acc_drop: Share = 0.10
    """Accuracy this far below the baseline, as a rolling mean, rolls back."""
    miss_cost: Positive = 1.0
    """What a missed row of class 1 costs, in any unit."""
    alarm_cost: Positive = 1.0
    """What a false alarm costs, in the same unit."""
    capacity: Annotated[float, Field(gt=0, lt=1000)] | None = None
    """Rows in 1,000 that may be flagged; it goes before the costs."""

    @property
    def bayes_threshold(self) -> float:
        """Probability from which on an alarm is the cheaper mistake."""
        return self.alarm_cost / (self.alarm_cost + self.miss_cost)


class ThresholdFile:
    """``threshold_config.json``, watched while the service runs.

    A bad edit is refused with a log line and the values in force stay.

    Args:
        path: The file; it is written with the defaults where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current = Thresholds()
        self._seen: tuple[int, int] | None = None
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.current.model_dump(), indent=2) + "\n")

    def check(self) -> None:
        """See whether `refresh` would take the file.

        Raises:
            SettingsError: It would not; each wrong field is named.
        """
        try:
            Thresholds.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            raise SettingsError(describe(error)) from error

    def refresh(self) -> bool:
        """Look at the file again; True when other values are in force now."""
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp == self._seen:
                return False
            self._seen = stamp
            fresh = Thresholds.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return False
        except OSError as error:
            log.error("cannot read %s: %s; still in force: %s", self.path, error, self.current)
            return False
        except ValidationError as error:
            log.error(
                "refused %s: %s; still in force: %s", self.path, describe(error), self.current
            )
            return False
        changed = fresh != self.current
        if changed:
            log.info("thresholds from %s: %s (before: %s)", self.path, fresh, self.current)
        self.current = fresh
        return changed
