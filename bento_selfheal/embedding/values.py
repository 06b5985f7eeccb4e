"""Inputs of any other kind, which a function of the user makes ready."""

from __future__ import annotations

import json
from typing import Any, Literal

from bento_selfheal.core.records import RawInput
from bento_selfheal.embedding.source import Prepare, Source


class Values(Source):
    """Whatever JSON can hold: `prepare` turns a list of it into what the network is called with."""

    kind: Literal["value"] = "value"
    prepare: Prepare

    def read(self, value: Any) -> Any:
        """The value as it is."""
        return value

    def raw(self, value: Any) -> RawInput:
        """The value as JSON."""
        return RawInput("application/json", json.dumps(value, ensure_ascii=False).encode())
