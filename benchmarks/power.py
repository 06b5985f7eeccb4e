"""How many labels the first promotion takes, beside the bets of earlier releases, at equal alpha.

    make bench-power

Writes benchmarks/results/power.json. Each of ten streams is healed once with the recipe `race`.
The losses of the frozen model and of the challenger on each labelled row, before it is trained on,
do not depend on the gate. Their first 2,500 rows, and as many from two later places, are drawn
anew 200 times, each row from the fifty around it, so that the course of a learning curve stays.
Every line of evidence must reach the level of a first trial, and is looked at after each 25 labels.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kinds import KINDS, TRAIN
from numpy.typing import NDArray
from readme import update
from worlds import DATA, elec

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.evidence.e_process import EProcess
from bento_selfheal.healing.evidence.gate import Gate
from bento_selfheal.healing.labels.batches import LabelledBatch
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.scoring.losses import row_losses
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream, Table, read_table
from bento_selfheal.simulation.table import package_table, table_stream

RESULTS = Path(__file__).parent / "results" / "power.json"
STREAM_ROWS, DELAY, LOOK, BLOCK = 3000, 100, 25, 50
PLACES = 0.0, 0.15, 0.4
DRAWS, ROWS, POWER = 200, 2500, 0.8
NEVER = 10**6
Numbers = NDArray[np.float64]


class AdaptiveOnly(EProcess):
    """The evidence of earlier releases: the adaptive bet alone."""

    def _bets(self) -> tuple[float, float]:
        _, adaptive = super()._bets()
        return adaptive, adaptive


def tables(name: str) -> tuple[Table, Table]:
    """The training part of a stream, and the rest."""
    if name == "Elec2":
        return elec()
    if name == "insects_gradual":
        return read_table(DATA / "insects_gradual.csv", "target").split(0.3)
    return KINDS[name](0).split(TRAIN)


def gains_of(name: str) -> Numbers:
    """The frozen model's losses less the challenger's, on labels new to both, ``(n,)``."""
    train, rest = tables(name)
    package = package_table("power", train, 42, None)
    whole = table_stream(rest, package, DELAY, min(STREAM_ROWS, len(rest.rows)))
    run = Backtest(package, Settings(tuning={"recipe": "race"}))
    parts, healer = run.pipeline.parts, run.pipeline.healer
    judged, costs, gains = healer.try_challenger, parts.controls.thresholds, list[Numbers]()

    def note(batch: LabelledBatch) -> None:
        if len(batch) and parts.line.trial is not None:
            said = parts.line.answer(batch.features)
            losses = [row_losses(p, batch.labels, costs) for p in (batch.baseline, said)]
            gains.append(losses[0] - losses[1])
        judged(batch)

    healer.try_challenger = note  # type: ignore[method-assign]
    for _ in run.run(Stream(whole.rows, whole.labels, DELAY, LOOK)):
        pass
    return np.concatenate(gains)


def redrawn(gains: Numbers, generator: np.random.Generator) -> Numbers:
    """The same course, with each row drawn from the fifty around it."""
    parts = gains[: len(gains) // BLOCK * BLOCK].reshape(-1, BLOCK)
    picked = generator.integers(0, BLOCK, size=parts.shape)
    return np.asarray(np.take_along_axis(parts, picked, axis=1).reshape(-1))


def labels_to_proof(process: EProcess, gains: Numbers, level: float) -> int:
    """Labels until the evidence stands at a look; a million where it never does."""
    for at in range(0, len(gains), LOOK):
        process.update(gains[at : at + LOOK])
        if process.reaches(level):
            return process.count
    return NEVER


def measure(name: str) -> dict[str, Any]:
    """Labels to promotion at a power of 80 %, from three places of a stream."""
    started, settings = time.perf_counter(), Settings()
    gains = gains_of(name)
    level = Gate(settings.gate_alpha, settings.tuning.trial_rows).level
    found: dict[str, list[int]] = {"now": [], "adaptive bet alone": []}
    for place in PLACES:
        part = gains[int(place * len(gains)) :][:ROWS]
        for kind, make in (("now", EProcess), ("adaptive bet alone", AdaptiveOnly)):
            generator = np.random.default_rng([42, int(100 * place)])
            needed = [
                labels_to_proof(make(), redrawn(part, generator), level) for _ in range(DRAWS)
            ]
            found[kind].append(int(np.quantile(needed, POWER, method="higher")))
    return {**found, "mean_gain": float(gains.mean()), "labels": len(gains),
            "seconds": round(time.perf_counter() - started, 1)}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-power", "settings": "recipe race", "power": POWER}
    with tempfile.TemporaryDirectory() as home:
        use_home(Path(home))
        for name in sys.argv[1:] or [*KINDS, "insects_gradual", "Elec2"]:
            results[name] = measure(name)
            print(name, json.dumps(results[name]), flush=True)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("power")


if __name__ == "__main__":
    main()
