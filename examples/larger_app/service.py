"""A larger application with the self-healing classifier as one of its services.

    SELFHEAL_MODEL=selfheal-demo:latest bentoml serve service:Payments

BentoML starts the classifier and its healing runner beside the application and calls them over a
local socket. To depend on a classifier that runs elsewhere, give its address as well:
`bentoml.depends(SelfHealing, url="http://classifier:3000")`.
"""

from __future__ import annotations

from typing import Any

import bentoml
import numpy as np
from pydantic import BaseModel

from bento_selfheal import AsyncClient, FeedbackItem
from bento_selfheal.default_service import SelfHealing


class Decision(BaseModel):
    """What to do with one payment."""

    reference: str
    """A chargeback names it, if there is one."""
    block: bool


@bentoml.service
class Payments:
    """Decides on payments. What becomes known later is sent to the classifier as labels."""

    classifier = bentoml.depends(SelfHealing)

    @bentoml.api
    async def decide(self, payments: list[list[float]]) -> list[Decision]:
        """Block or let through; rows in the order of the model's features."""
        answer = await self.classifier.predict(rows=np.asarray(payments, dtype=np.float32))
        return [
            Decision(reference=reference, block=decision == 1)
            for reference, decision in zip(answer.prediction_ids, answer.decisions, strict=True)
        ]

    @bentoml.api
    async def settle(self, references: list[str], fraud: list[bool]) -> int:
        """Tell which payments were fraud; how many of them were news."""
        items = [
            FeedbackItem(prediction_id=reference, label=int(label), source="settlement")
            for reference, label in zip(references, fraud, strict=True)
        ]
        counts = await self.classifier.feedback(items=items)
        return int(counts.accepted)

    @bentoml.api
    async def classifier_status(self) -> dict[str, Any]:
        """Where the classifier stands: what its own `GET /status` says."""
        async with AsyncClient(SelfHealing.url) as client:
            return await client.status()
