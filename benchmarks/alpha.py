"""How often the gate lets through what is no better, over runs in which nothing is.

    make bench-alpha

Writes benchmarks/results/alpha.json. The classes `Gate` and `Regret` decide, with their default
settings; rows are simulated as the difference of two losses, frozen model less challenger, whose
mean over the rows to come is 0 or below by construction. So every promotion is one that is no
better. Trials are a quarter as long as by default, so that several end within a run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from readme import update
from scipy.stats import beta

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.evidence.gate import Gate, Regret

RESULTS = Path(__file__).parent / "results" / "alpha.json"
RUNS, ROWS, ROUND = 2000, 1500, 25
NOISE = 0.2
"""Spread of the difference of two losses on a row, about as on Elec2."""
BETWEEN_SNAPSHOTS = 0.05
"""Its spread where both are snapshots of one line."""
RESTART = 0.05
"""Chance of a restart at each round, in the runs with restarts."""
Numbers = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Numbers]


def noise(generator: np.random.Generator) -> Numbers:
    """Differences without any mean, ``(ROWS,)``."""
    return np.clip(generator.normal(scale=NOISE, size=ROWS), -1, 1)


def slightly_worse(generator: np.random.Generator) -> Numbers:
    """The challenger loses half a point a row."""
    return np.clip(noise(generator) - 0.005, -1, 1)


def heavy_tails(generator: np.random.Generator) -> Numbers:
    """Student's t with two degrees of freedom, cut at 1 on both sides."""
    return np.clip(generator.standard_t(2, size=ROWS) * NOISE / 2, -1, 1)


def rare_gain(generator: np.random.Generator) -> Numbers:
    """A large gain on two rows in a hundred makes up for a small loss on the others."""
    return np.where(generator.random(ROWS) < 0.02, 0.98, -0.02)


def rare_loss(generator: np.random.Generator) -> Numbers:
    """A large loss on two rows in a hundred undoes a small gain on the others."""
    return -rare_gain(generator)


def autocorrelated(generator: np.random.Generator) -> Numbers:
    """Each difference leans to its predecessor's side (AR(1) with 0.5, half of the variance)."""
    drawn, out = generator.normal(scale=NOISE / np.sqrt(2), size=(2, ROWS)), np.zeros(ROWS)
    for i in range(1, ROWS):
        out[i] = 0.5 * out[i - 1] + np.sqrt(0.75) * drawn[0, i]
    return np.clip(out + drawn[1], -1, 1)


def blocks(generator: np.random.Generator) -> Numbers:
    """Fifty rows at a time the challenger is five points better, or five points worse."""
    side = generator.choice([-0.05, 0.05], size=ROWS // 50).repeat(50)
    return np.clip(noise(generator) + side, -1, 1)


def seasonal(generator: np.random.Generator) -> Numbers:
    """It is up to five points better and worse in turn, 500 rows a season."""
    season = np.sin(2 * np.pi * (np.arange(ROWS) / 500 + generator.random()))
    return np.clip(noise(generator) + 0.05 * season, -1, 1)


@dataclass(frozen=True)
class World:
    """A kind of run."""

    draw: Draw
    restarts: bool = False
    """Whether lines are given up: an operator's adoption, a source's quarantine, a rollback."""
    flagged: float = 1.0
    """Chance of a label where the champion flags the row, on half of the rows."""
    passed: float = 1.0
    """Chance of a label where it does not."""
    side: float = 0.0
    """How much better the challenger is where rows are flagged, and worse where they are not."""


WORLDS = {
    "no difference": World(noise),
    "slightly worse": World(slightly_worse),
    "heavy tails": World(heavy_tails),
    "a rare large gain": World(rare_gain),
    "a rare large loss": World(rare_loss),
    "restarts by every cause": World(noise, restarts=True),
    "selective labels, no better anywhere": World(noise, flagged=0.9, passed=0.1),
    "selective labels, better where they come": World(noise, flagged=0.9, passed=0.1, side=0.02),
    "autocorrelated": World(autocorrelated),
    "better and worse in blocks of 50 rows": World(blocks),
    "seasonal": World(seasonal),
}


class Run:
    """One run: what serves, and what that costs over the frozen model.

    Attributes:
        promoted: Whether anything was ever promoted over the frozen model.
        loss: Sum of what was served's loss over the frozen model's.
    """

    def __init__(self, settings: Settings) -> None:
        tuning = settings.tuning
        self._gate = Gate(settings.gate_alpha, tuning.trial_rows // 4, tuning.advance_rows)
        self._regret = Regret(tuning.regret_alpha, tuning.trial_rows)
        self._serves = False
        self.promoted = False
        self.loss = 0.0

    def round(self, gains: Numbers, known: NDArray[np.bool_], between: Numbers) -> None:
        """Serve some rows, then see the labels that come for them.

        Args:
            gains: The frozen model's losses less the line's, ``(n,)``.
            known: For which rows a label comes, ``(n,)``.
            between: The champion's losses less the challenger's once the line serves, ``(n,)``.
        """
        if self._serves:
            self.loss -= float(gains.sum())
        seen = (between if self._serves else gains)[known]
        if self._serves and self._regret.update(-gains[known]):
            self._take_back()
            return
        if self._gate.update(seen).promote:
            self._serves = self.promoted = True
            self._gate.restart()

    def restart(self, cause: int) -> None:
        """A line is given up; a rollback only where it serves."""
        if cause or self._serves:
            self._take_back()

    def _take_back(self) -> None:
        self._serves = False
        self._regret.restart()
        self._gate.renew()


def run(world: World, settings: Settings, generator: np.random.Generator) -> Run:
    """One run of a world."""
    made, gains = Run(settings), world.draw(generator)
    flagged = generator.random(ROWS) < 0.5
    gains = np.clip(gains + np.where(flagged, world.side, -world.side), -1, 1)
    known = generator.random(ROWS) < np.where(flagged, world.flagged, world.passed)
    between = generator.normal(scale=BETWEEN_SNAPSHOTS, size=ROWS).clip(-1, 1)
    for at in range(0, ROWS, ROUND):
        part = slice(at, at + ROUND)
        if world.restarts and generator.random() < RESTART:
            made.restart(int(generator.integers(3)))
        made.round(gains[part], known[part], between[part])
    return made


def measure(name: str) -> dict[str, Any]:
    """All runs of a world."""
    started, settings = time.perf_counter(), Settings()
    runs = [run(WORLDS[name], settings, np.random.default_rng([seed, 11])) for seed in range(RUNS)]
    bad = sum(one.promoted for one in runs)
    losses = [one.loss / ROWS for one in runs]
    return {
        "runs": RUNS,
        "promoted": bad,
        "share": bad / RUNS,
        "interval": [
            float(beta.ppf(0.025, bad, RUNS - bad + 1)) if bad else 0.0,
            float(beta.ppf(0.975, bad + 1, RUNS - bad)) if bad < RUNS else 1.0,
        ],
        "alpha": settings.gate_alpha,
        "largest_loss": max(losses),
        "mean_loss": float(np.mean(losses)),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-alpha", "settings": "defaults", "rows": ROWS}
    for name in sys.argv[1:] or WORLDS:
        results[name] = measure(name)
        print(name, json.dumps(results[name]), flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("alpha")


if __name__ == "__main__":
    main()
