"""The BentoML service around the healing runner."""

from __future__ import annotations

from typing import Any

import bentoml

from bento_selfheal.config.settings import Settings, load_settings
from bento_selfheal.deployment.deploy import prepare, prepare_each
from bento_selfheal.deployment.each_model import EachModel
from bento_selfheal.deployment.memory import share_freed_memory
from bento_selfheal.deployment.threads import one_thread_a_call
from bento_selfheal.runner.pacing import Pace, load_optimizer
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
        if settings.models:
            share_freed_memory()
        load_optimizer()
        self._pace = Pace(settings.runner_nice)
        self._pace.stand_back()
        self._telemetry = open_telemetry()
        self._runners = EachModel(settings.each, self._open)
        meter = open_meter("selfheal-runner")
        runners = self._runners.parts
        observe_status(meter, lambda: {name: one.status for name, one in runners.items()})
        observe_threads(meter, lambda: {name: one.threads() for name, one in runners.items()})

    def _open(self, settings: Settings) -> Runner:
        if settings.name:  # what was not ready for the deployment may be so now
            prepare(settings)
        runner = Runner(settings, self._telemetry, self._pace)
        runner.start()
        return runner

    @bentoml.on_deployment
    @staticmethod
    def deploy() -> None:
        """Make the stores ready, once, before any worker starts."""
        prepare_each(load_settings())

    @bentoml.on_shutdown
    def shut_down(self) -> None:
        """Finish the step in hand and hand the leases over."""
        self._runners.thread.stop()
        for runner in self._runners.parts.values():
            runner.stop()

    async def __is_alive__(self) -> bool:
        """For `/livez` of the runner's process: whether all its threads run."""
        return all(runner.alive for runner in self._runners.parts.values())

    @bentoml.api
    def describe(self) -> dict[str, Any]:
        """What the runner last showed of itself, by model where there are several."""
        shown = {name: runner.status for name, runner in self._runners.parts.items()}
        return shown.get("", shown)
