"""What a network is asked about, where it is no row of a table: tensors, images, texts, values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from bento_selfheal.core.importing import import_function
from bento_selfheal.core.records import RawInput

Called = Any
"""What a network is called with: a tensor, a dict or a tuple of tensors, or a list of texts."""


class Source(BaseModel):
    """How one input is read and how many of them become what the network is called with.

    A class of its own for each kind says `read` and `gather`; those of a user may be made ready by
    a function instead, which takes the list of inputs and is imported where it is needed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    media_types: ClassVar[tuple[str, ...]] = ()
    """Of bodies that are one input each."""
    takes_parts: ClassVar[bool] = False
    """Whether each file of a multipart body is an input."""
    kind: str
    prepare: str = ""
    """``module:function`` of a list of inputs, as `read` returns them, to what the network is
    called with; empty where the kind does that by itself."""

    def read(self, value: Any) -> Any:
        """One input, as it came by JSON or from Python, or as the bytes of a body.

        Raises:
            ValueError: It is none; the message says what is needed and what was given.
        """
        raise NotImplementedError

    def raw(self, value: Any) -> RawInput:
        """An input that can be read, for the log: as it came, byte for byte where it came as bytes.

        Args:
            value: As `read` takes it.
        """
        raise NotImplementedError

    def gather(self, inputs: Sequence[Any]) -> Called:
        """What the network is called with, where there is no `prepare`."""
        raise NotImplementedError

    def ready(self, inputs: Sequence[Any]) -> Called:
        """What the network is called with, on the CPU, for one input or more.

        Raises:
            ValueError: `prepare` cannot be imported.
        """
        if not self.prepare:
            return self.gather(inputs)
        return import_function(self.prepare)(list(inputs))


FloatType = Literal["float32", "float64", "float16", "bfloat16"]
DTYPES = {
    "float32": torch.float32, "float64": torch.float64, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "uint8": torch.uint8, "int32": torch.int32, "int64": torch.int64,
    "bool": torch.bool,
}  # fmt: skip
Prepare = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
"""``module:function``"""
