"""What a heal of 25 labels costs, by the width of the hidden representation and the recipe.

    make bench-heal

Drives the pipeline in memory over a stream that stays calm and then changes. Processor time is
that of the process, with one torch thread, from the first of 25 labels to the end of their heal:
joining, scoring, training, the gate and both snapshots. Writes benchmarks/results/heal_cost.json.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import numpy as np
import torch
from numpy.typing import NDArray
from readme import update
from safetensors.torch import save

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.scoring.probabilities import predict_probabilities
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream

RESULTS = Path(__file__).parent / "results" / "heal_cost.json"
WIDTHS, RECIPES = (64, 256, 512, 2048), ("replay", "race")
FEATURES, LABELS = 8, 25
TRAINING_ROWS, FRESH_ROWS = 4000, 5000
WARM_HEALS, TIMED_HEALS, CHANGED_HEALS = 160, 41, 120
SEED = 42
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def draw(n: int, changed: bool, seed: int) -> Rows:
    """Rows of eight features and their class; after the change, the first one counts the other
    way."""
    x = np.random.default_rng([SEED, seed]).normal(size=(n, FEATURES)).astype(np.float32)
    first = -x[:, 0] if changed else x[:, 0]
    return x, (1.5 * first + x[:, 1] + np.sin(2 * x[:, 2]) > 0).astype(np.int64)


def package_of(width: int, seed: int = SEED) -> Package:
    """The article's classifier with hidden vectors of this width."""
    rows, labels = draw(TRAINING_ROWS, False, seed)
    return package_model(
        f"wide-{width}", rows, labels, features=[f"f{i}" for i in range(FEATURES)], seed=seed,
        builder="bento_selfheal.model:SelfHealingMLP",
        builder_args={"input_dim": FEATURES, "hidden_dim": width},
        training=Training(epochs=16, lr=min(0.002, 2 / width)),
    )  # fmt: skip


class Clock:
    """Takes the processor time of each heal with the labels that it is about.

    Args:
        run: What heals; its labels are timed from now on.
    """

    def __init__(self, run: Backtest) -> None:
        self.milliseconds: list[float] = []
        self._consume, self._counts = run.pipeline.consume, run.parts.scoreboard.counts
        self._spent, self._heals = 0.0, self._counts.heals
        run.pipeline.consume = self.consume  # type: ignore[method-assign]

    def consume(
        self, entry: PredictionRecord | FeedbackRecord, prediction: PredictionRecord | None = None
    ) -> None:
        """Hand an entry on."""
        began = time.process_time()
        self._consume(entry, prediction)
        if isinstance(entry, FeedbackRecord):
            self._spent += time.process_time() - began
        if self._counts.heals > self._heals:
            self.milliseconds.append(1000 * self._spent)
            self._spent, self._heals = 0.0, self._counts.heals


def rows_of(seed: int) -> Rows:
    """A stream that stays calm while the buffer fills and heals are timed, and then changes."""
    calm = draw((WARM_HEALS + TIMED_HEALS) * LABELS, False, seed)
    changed = draw(CHANGED_HEALS * LABELS, True, seed + 1)
    return np.concatenate([calm[0], changed[0]]), np.concatenate([calm[1], changed[1]])


def accuracy(model: SelfHealingModel, changed: bool) -> float:
    """On fresh rows."""
    rows, labels = draw(FRESH_ROWS, changed, 9)
    return Scores.of(predict_probabilities(model, rows), labels.astype(np.float32)).accuracy


def cost(run: Backtest, clock: Clock) -> dict[str, Any]:
    """What heals took, and how large what they train is."""
    healed = run.parts.line.challenger.answers
    return {
        "milliseconds": round(float(np.median(clock.milliseconds)), 1),
        "slowest_milliseconds": round(max(clock.milliseconds), 1),
        "heals_timed": len(clock.milliseconds),
        "rows_in_buffer": len(run.parts.buffer),
        "layer_weights": sum(value.numel() for value in healed.reflexive.parameters()),
        "snapshot_bytes": len(save(healed.adapter_state())),
    }


def measure(package: Package, recipe: str, seed: int = SEED) -> dict[str, Any]:
    """Cost, size and accuracy of one model under one recipe."""
    settings = Settings(seed=seed, tuning={"recipe": recipe, "batch_size": LABELS})
    run = Backtest(package, settings)
    clock, found = Clock(run), dict[str, Any](width=package.info.hidden_dim, recipe=recipe)
    for report in run.run(Stream(*rows_of(seed), LABELS, LABELS)):
        if report.number == WARM_HEALS:
            clock.milliseconds.clear()
        if report.number == WARM_HEALS + TIMED_HEALS:
            found |= cost(run, clock)
            found["calm_frozen"] = accuracy(package.model, False)
            found["calm_healed"] = accuracy(run.parts.line.challenger.answers, False)
    found["changed_frozen"] = accuracy(package.model, True)
    found["changed_healed"] = accuracy(run.parts.line.challenger.answers, True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    widths = [int(width) for width in sys.argv[1:]] or WIDTHS
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-heal", "labels": LABELS, "seed": SEED}
    with tempfile.TemporaryDirectory() as home:
        use_home(Path(home))
        for width in widths:
            package = package_of(width)
            for recipe in RECIPES:
                results[f"{width}, {recipe}"] = found = measure(package, recipe)
                print(json.dumps(found), flush=True)
                RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("heal_cost")


if __name__ == "__main__":
    main()
