"""Inputs of any other kind, which a function of the user makes ready."""

from __future__ import annotations

from typing import Any, Literal

from bento_selfheal.embedding.source import Prepare, Source


class Values(Source):
    """Whatever JSON can hold: `prepare` turns a list of it into what the network is called with."""

    kind: Literal["value"] = "value"
    prepare: Prepare

    def read(self, value: Any) -> Any:
        """The value as it is."""
        return value
