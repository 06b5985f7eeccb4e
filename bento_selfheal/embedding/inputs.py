"""Every kind of input that a network may have; one line for each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bento_selfheal.embedding.images import Images
from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.embedding.tensors import Tensors
from bento_selfheal.embedding.texts import Texts
from bento_selfheal.embedding.values import Values

Inputs = Annotated[Tensors | Images | Texts | Values | TableRows, Field(discriminator="kind")]
