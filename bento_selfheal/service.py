"""The two BentoML services, put together: a user's `service.py` subclasses both bases.

```python
settings = load_settings()

@bentoml.service(**runner_options(settings))
class HealingRunner(HealingRunnerBase): ...

@bentoml.service(**predict_options(settings))
class SelfHealing(PredictBase):
    model = bentoml.models.BentoModel(settings.model)
    runner = bentoml.depends(HealingRunner)
```
"""

from __future__ import annotations

from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.runner.runner_service import HealingRunnerBase
from bento_selfheal.serving.application import SelfHealingService
from bento_selfheal.serving.predict_service import PredictBase
from bento_selfheal.telemetry.otel import tracing_options

__all__ = ["HealingRunnerBase", "PredictBase", "predict_options", "runner_options"]


def predict_options(settings: Settings) -> dict[str, Any]:
    """Options of `@bentoml.service` for the service that predicts."""
    return {
        "service_class": SelfHealingService,
        "workers": settings.workers,
        # Readiness is the predict worker's own: a dead runner must not take it out of rotation.
        "runner_probe": {"enabled": False},
        **tracing_options(),
    }


def runner_options(settings: Settings) -> dict[str, Any]:
    """Options of `@bentoml.service` for the healing runner: one process."""
    return {"workers": 1, **tracing_options()}
