"""What the API page says of a network's inputs."""

from __future__ import annotations

import numpy as np
import pytest

from bento_selfheal.embedding.tensors import Tensors, tensors_like
from bento_selfheal.serving.openapi.network_schema import input_schema
from bento_selfheal.serving.openapi.row_schema import LARGEST


@pytest.mark.parametrize(("trained", "most"), [(0.5, 100.0), (4.0, 1000.0), (1e38, LARGEST)])
def test_the_page_shows_numbers_near_those_of_training(trained: float, most: float) -> None:
    """Numbers that no hidden vector can hold are not shown as valid; in older packages all are."""
    source = tensors_like(np.full((3, 2), trained, dtype=np.float32))
    [form] = input_schema(source).forms
    assert (form["items"]["minimum"], form["items"]["maximum"]) == (-most, most)
    [older] = input_schema(Tensors(shape=(2,))).forms
    assert older["items"]["maximum"] == LARGEST
