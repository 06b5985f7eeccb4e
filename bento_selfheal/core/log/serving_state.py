"""What answers requests, as the promotion log says it."""

from __future__ import annotations

from typing import NamedTuple

from bento_selfheal.core.records import Promotion


class ServingState(NamedTuple):
    """What answers requests now."""

    promotion: Promotion | None
    """The one that decides what serves; None before the first."""
    moved: str | None
    """The operating point that was put in force last, as JSON."""
    canary: Promotion | None = None
    """The snapshot that answers a share of the requests before all; None while there is none."""

    @property
    def place(self) -> int:
        """Place of the newest promotion; 0 before the first."""
        newest = self.canary or self.promotion
        return newest.seq if newest else 0

    @property
    def canary_version(self) -> int:
        """Version of the canary; 0 while there is none."""
        return self.canary.version if self.canary else 0

    @property
    def shares(self) -> dict[int, float]:
        """The share of the requests that each version answers; of what serves first."""
        if self.promotion is None:
            return {}
        if self.canary is None:
            return {self.promotion.version: 1.0}
        share = self.canary.share
        return {self.promotion.version: 1 - share, self.canary.version: share}
