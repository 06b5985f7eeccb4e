"""Which model a request, or a thread, is about, where one service serves several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MODEL: ContextVar[str] = ContextVar("model", default="")
"""The model's name; empty where the service has one model only."""


@contextmanager
def about(model: str) -> Iterator[None]:
    """Let what runs in the block, and threads that are made in it, be about a model."""
    before = MODEL.set(model)
    try:
        yield
    finally:
        MODEL.reset(before)
