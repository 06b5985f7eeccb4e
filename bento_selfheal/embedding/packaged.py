"""What a package notes of the network that embeds its inputs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from bento_selfheal.embedding.inputs import Inputs
from bento_selfheal.embedding.source import FloatType
from bento_selfheal.model import Output


class Embedding(BaseModel):
    """A frozen network in front of what heals.

    Its rows are hidden vectors, with named facts behind them: those are logged, watched and learned
    from, and the healing runner never loads the network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Inputs
    network: str
    """``module:function`` that builds it"""
    network_args: dict[str, Any]
    head: str
    """Name of the module that answers"""
    width: int
    """Of the hidden vector, which is the first columns of a row"""
    dtype: FloatType = "float32"
    """Of its parameters; what it is called with is brought to it."""
    output: Output
    """What the head returns"""
    weights_sha256: str = ""

    def hidden_names(self) -> list[str]:
        """Names of the columns of the hidden vector."""
        return [f"hidden {i}" for i in range(self.width)]
