"""What the operators' endpoints share: the running worker's operations, and shown examples."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from bento_selfheal.serving.operations import Operations


async def _operations(request: Request) -> Operations:
    operations: Operations = request.app.state.operations()
    return operations


Running = Annotated[Operations, Depends(_operations)]


def shows(example: Any) -> dict[int | str, dict[str, Any]]:
    """A good answer, for the OpenAPI page."""
    return {200: {"content": {"application/json": {"example": example}}}}
