"""The service for users who have only a packaged model; the repository's `service.py` is alike."""

import bentoml

from .config import load_settings
from .image import container_image
from .service import HealingRunnerBase, PredictBase, predict_options, runner_options

settings = load_settings()


@bentoml.service(**runner_options(settings))
class HealingRunner(HealingRunnerBase):
    """Watches for drift, heals the model, tests the result and rolls back what fails."""


@bentoml.service(**predict_options(settings), image=container_image(settings))
class SelfHealing(PredictBase):
    """A torch classifier that recovers from drift while it serves."""

    model = bentoml.models.BentoModel(settings.model)
    runner = bentoml.depends(HealingRunner)
