"""The service that `bentoml serve` runs. Copy this file, name your model, change what you like."""

import bentoml

from bento_selfheal.config import load_settings
from bento_selfheal.image import container_image
from bento_selfheal.service import (
    HealingRunnerBase,
    PredictBase,
    predict_options,
    runner_options,
)

settings = load_settings()


@bentoml.service(**runner_options(settings))
class HealingRunner(HealingRunnerBase):
    """Watches for drift, heals the model, tests the result and rolls back what fails."""


@bentoml.service(**predict_options(settings), image=container_image(settings))
class SelfHealing(PredictBase):
    """A torch classifier that recovers from drift while it serves."""

    model = bentoml.models.BentoModel(settings.model)
    runner = bentoml.depends(HealingRunner)
