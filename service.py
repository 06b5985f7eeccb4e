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
    """Watches, heals, proves and undoes."""


@bentoml.service(**predict_options(settings), image=container_image(settings))
class SelfHealing(PredictBase):
    """A torch classifier that repairs itself when its world drifts."""

    model = bentoml.models.BentoModel(settings.model)
    runner = bentoml.depends(HealingRunner)
