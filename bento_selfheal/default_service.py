"""The service for those who bring only a packaged model: what a copied `service.py` is too."""

import bentoml

from .config import load_settings
from .image import container_image
from .service import HealingRunnerBase, PredictBase, predict_options, runner_options

settings = load_settings()


@bentoml.service(**runner_options(settings))
class HealingRunner(HealingRunnerBase):
    """Watches, heals, proves and undoes."""


@bentoml.service(**predict_options(settings), image=container_image(settings))
class SelfHealing(PredictBase):
    """A torch classifier that repairs itself when its world drifts."""

    model = bentoml.models.BentoModel(settings.model)
    runner = bentoml.depends(HealingRunner)
