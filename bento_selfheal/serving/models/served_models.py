"""The models of a predict process: one without a name, or several by name."""

from __future__ import annotations

import logging
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.models.current import MODEL
from bento_selfheal.deployment.deployable import check_deployed
from bento_selfheal.deployment.each_model import EachModel
from bento_selfheal.errors import StoreError
from bento_selfheal.serving.models.overview import broken, summary
from bento_selfheal.serving.models.served_model import ServedModel
from bento_selfheal.serving.worker_metrics import Instruments
from bento_selfheal.telemetry.metrics import exposition, open_meter, with_threads
from bento_selfheal.telemetry.otel import open_telemetry

log = logging.getLogger(__name__)


class ServedModels:
    """Answers for every model of the service.

    Args:
        settings: Of the service.
        cores: Cores that all workers of the service may use together.
    """

    def __init__(self, settings: Settings, cores: int) -> None:
        telemetry = open_telemetry()
        self.names = settings.models
        self.instruments = Instruments(open_meter("selfheal"), several=bool(settings.models))

        def open_one(own: Settings) -> ServedModel:
            if own.name:  # of a single model, the deployment has failed and nothing was started
                check_deployed(own)
            return ServedModel(own, cores, telemetry, self.instruments)

        self._each = EachModel(settings.each, open_one)

    @property
    def current(self) -> ServedModel:
        """The model that the request at hand is about.

        Raises:
            StoreError: It cannot serve now.
        """
        name = MODEL.get()
        try:
            return self._each.parts[name]
        except KeyError:
            raise StoreError(self.problem(name) or "the request names no model") from None

    def problem(self, name: str) -> str:
        """Why a model cannot serve; empty where it does."""
        why = self._each.problems.get(name, "")
        return f"the model {name} does not serve: {why}" if why else ""

    @property
    def alive(self) -> bool:
        """Whether every thread behind the answers runs."""
        return all(model.alive for model in self._each.parts.values())

    async def close(self) -> None:
        """Finish what is computed, write what waits and stop the threads."""
        self._each.thread.stop()
        for model in self._each.parts.values():
            await model.close()

    def metrics(self, content: str) -> str:
        """A page of metrics with the figures of the stores: the same on every worker."""
        statuses = {}
        for name, model in self._each.parts.items():
            try:
                statuses[name] = model.worker.operations.status()
            except StoreError as error:
                log.warning("/metrics without the runner's figures: %s", error)
        if self.instruments.serves is not None:
            for name in self._each.problems:
                self.instruments.serves.labels(name).set(0)
        threads = {name: status.get("threads", []) for name, status in statuses.items()}
        return with_threads(content + (exposition(statuses) if statuses else ""), threads)

    def overview(self) -> dict[str, Any]:
        """Every model in short, those that do not serve included."""
        return {"models": {name: self._summary(name) for name in self.names}}

    def _summary(self, name: str) -> dict[str, Any]:
        if why := self.problem(name):
            return broken(name, why)
        try:
            return summary(name, self._each.parts[name].worker.operations.status())
        except StoreError as error:
            return broken(name, str(error))
