"""One part of a process for every model that the service serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from bentoml.exceptions import BentoMLException

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.models.current import about
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.errors import SelfHealError

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
"""Seconds between two attempts to open what could not be opened."""
Part = TypeVar("Part")


class EachModel(Generic[Part]):
    """Opens a part for each model. What fails leaves the others working, and is tried again.

    Args:
        each: The settings of every model.
        open_part: Opens the part of one model, started.

    Attributes:
        parts: What is open, by name.
        problems: Why a model has no part, by name.
        thread: Tries again where something failed; it runs where there are several models.

    Raises:
        Exception: Of the only model, or of the first one where none could be opened.
    """

    def __init__(self, each: Mapping[str, Settings], open_part: Callable[[Settings], Part]) -> None:
        self._each = each
        self._open = open_part
        self.parts: dict[str, Part] = {}
        self.problems: dict[str, str] = {}
        errors = [error for name in each if (error := self._try(name)) is not None]
        if len(errors) == len(each):
            raise errors[0]
        self.thread = PeriodicThread("selfheal-models", self.try_again, RETRY_SECONDS)
        if len(each) > 1:
            self.thread.start()

    def try_again(self) -> None:
        """Open what could not be opened so far."""
        for name in list(self.problems):
            if self._try(name) is None:
                log.info("the model %s serves again", name)

    def _try(self, name: str) -> Exception | None:
        try:
            with about(name):
                self.parts[name] = self._open(self._each[name])
        except Exception as error:
            if name:
                self._tell(name, error)
            return error
        self.problems.pop(name, None)
        return None

    def _tell(self, name: str, error: Exception) -> None:
        """Say loudly that a model does not serve, once for each reason."""
        why = f"{type(error).__name__}: {error}"
        if self.problems.get(name) != why:
            foreseen = isinstance(error, SelfHealError | BentoMLException)
            log.error(
                "THE MODEL %s DOES NOT SERVE, the others do; next try in %.0f s: %s",
                name, RETRY_SECONDS, why, exc_info=None if foreseen else error,
            )  # fmt: skip
        self.problems[name] = why
