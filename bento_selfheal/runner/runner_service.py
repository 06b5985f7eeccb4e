"""The BentoML service around the healing runner."""

from __future__ import annotations

from typing import Any

import bentoml

from bento_selfheal.config.settings import load_settings
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.threads import one_thread_a_call
from bento_selfheal.runner.pacing import load_optimizer, stand_back
from bento_selfheal.runner.runner import Runner
from bento_selfheal.telemetry.logs import log_with_bentoml
from bento_selfheal.telemetry.metrics import observe_status, observe_threads, open_meter
from bento_selfheal.telemetry.otel import open_telemetry


class HealingRunnerBase:
    """Watches for drift, heals the model, tests the result and rolls back what fails: in a process
    of its own, in a background thread."""

    def __init__(self) -> None:
        settings = load_settings()
        log_with_bentoml(settings.log_format)
        one_thread_a_call()
        load_optimizer()
        stand_back(settings.runner_nice)
        self._runner = Runner(settings, open_telemetry())
        meter = open_meter("selfheal-runner")
        observe_status(meter, lambda: self._runner.status)
        observe_threads(meter, self._runner.threads)
        self._runner.start()

    @bentoml.on_deployment
    @staticmethod
    def deploy() -> None:
        """Make the store ready, once, before any worker starts."""
        prepare(load_settings())

    @bentoml.on_shutdown
    def shut_down(self) -> None:
        """Finish the step in hand and hand the lease over."""
        self._runner.stop()

    async def __is_alive__(self) -> bool:
        """For `/livez` of the runner's process: whether all its threads run."""
        return self._runner.alive

    @bentoml.api
    def describe(self) -> dict[str, Any]:
        """What the runner last showed of itself."""
        return self._runner.status
