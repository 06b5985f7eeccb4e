"""The recipe `race`: the layer and many experts learn side by side, and their mixture answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.core.class_probabilities import columns
from bento_selfheal.experts.lesson import Lesson
from bento_selfheal.experts.mixture import LAYER
from bento_selfheal.experts.race import MOST_STUDIED, Asked, Race
from bento_selfheal.healing.challenger.anchor import Anchor
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.recipes import (
    HALF_LIVES,
    fit_anchor,
    frozen_answers,
    hidden_and_labels,
    soft_targets,
    step,
)
from bento_selfheal.healing.challenger.schedule import Schedule
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.rules import RuleSet
from bento_selfheal.scoring.probabilities import cross_entropy

REFIT, QUIET_REFIT = 100, 400
"""Labels after which the anchor follows again, and where the layer says hardly anything."""
FEWEST_STEPS, MOST_STEPS = 6, 50
"""Most steps of the layer in a round: the more it says in the mixture, and the more of what it
learns are soft labels, which cannot be learned by heart, the more it may take."""
FEW = 0.5
"""Where a label comes for one row in many, it weighs as much as this power of their number: the
world moves on while labels are waited for."""
AWAKE = 40
"""Rounds after a change in which the layer always trains."""
LABELS_OF_REST = 50
"""Labels after which the layer trains again; twice as many where it has hardly anything to say."""
QUIET = 0.05
"""Share in the mixture under which the layer has hardly anything to say: what it learns then barely
moves an answer."""
YOUNG = 500
"""Labels before which it is not known yet how much the layer has to say."""


@dataclass(frozen=True)
class RaceRecipe:
    """Everybody is scored on the new rows, then learns them; the mixture is what answers."""

    parameters: HealParameters
    name: str = "race"

    def heal(
        self, challenger: Challenger, rows: LabelledRows, rules: RuleSet, generator: torch.Generator
    ) -> dict[str, float]:
        """Train in place on the rows that are new to the line; the layer's losses, none where it
        rests."""
        race = challenger.race
        if race is None:
            raise RuntimeError("the recipe `race` needs a challenger with a race")
        fresh = rows.tail(min(challenger.seen - race.seen, len(rows)))
        if not challenger.examined and len(fresh) < len(rows):
            older = rows.head(len(rows) - len(fresh)).tail(MOST_STUDIED)
            race.examine(_lesson(challenger, older), older.repeats)
        challenger.examined = True
        lesson = None
        if len(fresh):
            lesson = replace(_lesson(challenger, fresh), context=challenger.context(fresh.asked))
            _score(challenger, race, race.unknown(lesson, fresh.repeats), fresh, rows.rarity)
        rests = _rests(challenger, len(fresh))
        losses = {} if rests else self._train_layer(challenger, rows, generator)
        if lesson is not None:
            race.learn(lesson)
        challenger.answers.mixture = race.mixture()
        return losses

    def _train_layer(
        self, challenger: Challenger, rows: LabelledRows, generator: torch.Generator
    ) -> dict[str, float]:
        """A few minibatch steps of the layer, towards labels and the anchor's soft ones."""
        p, schedule = self.parameters, Schedule(self.parameters)
        binary = challenger.anchor is not None and challenger.anchor.classes == 1
        lean = schedule.anchor_weight(challenger.seen * rows.uncommon) if binary else 0.0
        if challenger.anchor is not None and lean > 0 and _refits(challenger, challenger.anchor):
            fit_anchor(p, challenger, challenger.anchor, rows)
        half_life = schedule.half_life(rows.rarest)
        rows = rows.since(HALF_LIVES * half_life)
        wanted = schedule.steps(challenger.rounds, challenger.rows_per_label, lean)
        steps = min(
            wanted, max(FEWEST_STEPS, round(MOST_STEPS * lean * _share_of_layer(challenger)))
        )
        size = min(p.replay_batch, len(rows))
        drawn = torch.multinomial(
            rows.recency(half_life), steps * size, replacement=True, generator=generator
        )
        seen, places = torch.unique(drawn, return_inverse=True)
        hidden, truth = soft_targets(challenger, rows.at(seen.numpy()), lean)
        loss = torch.zeros(())
        for at in places.reshape(steps, size).to(hidden.device):
            loss = cross_entropy(challenger.model.decide(hidden[at]), truth[at])
            step(challenger, loss)
        moved = challenger.bound(p.adapter_norm)
        challenger.rounds += 1
        decay = schedule.average_decay(challenger.rows_per_label, lean)
        challenger.follow(max(1 - decay, 1 / challenger.rounds))
        return {"real": loss.item(), "total": loss.item(), "moved": moved, "lean": lean}


def _share_of_layer(challenger: Challenger) -> float:
    """How much the layer says in the newest mixture; all there is to say in a young line."""
    if challenger.seen < YOUNG:
        return 1.0
    mixture = challenger.answers.mixture
    voice = mixture.voices.get(LAYER) if mixture is not None else None
    return 0.0 if voice is None else voice.share


def _rests(challenger: Challenger, fresh: int) -> bool:
    """Whether the layer sits this round of so many new labels out: experts learn what is new from
    few labels, the layer does not."""
    if challenger.seen < YOUNG:
        return False
    quiet = challenger.rounds >= AWAKE and _share_of_layer(challenger) < QUIET
    wait = LABELS_OF_REST * (2 if quiet else 1)
    return challenger.seen // wait == (challenger.seen - fresh) // wait


def _refits(challenger: Challenger, anchor: Anchor) -> bool:
    """Whether the anchor follows again: often at first, later every so many labels."""
    wait = REFIT if _share_of_layer(challenger) >= QUIET else QUIET_REFIT
    return challenger.seen - anchor.fitted >= min(challenger.seen // 4, wait)


def _lesson(challenger: Challenger, rows: LabelledRows) -> Lesson:
    """What experts learn of rows, on the CPU, where all of them are."""
    hidden, labels = hidden_and_labels(challenger.baseline, rows)
    frozen = columns(frozen_answers(challenger, rows)).cpu()
    ones = np.ones(len(rows), dtype=np.float32)
    weights = torch.from_numpy(ones if rows.weights is None else rows.weights)
    if challenger.race is not None and challenger.race.seen:  # the first labels are late at least
        weights = weights * challenger.rows_per_label**FEW
    return Lesson(hidden.cpu(), frozen, labels.cpu(), weights)


def _score(
    challenger: Challenger, race: Race, lesson: Lesson, rows: LabelledRows, rarity: float
) -> None:
    """Score everybody as they were when the rows were asked."""
    answers = challenger.answers
    places = np.full(len(rows), -1) if rows.asked is None else rows.asked
    hidden, asked = lesson.hidden.to(answers.device), list[Asked]()
    with torch.no_grad():
        for run, moment in challenger.past.when(places):
            then = None
            if moment is not None:
                then = moment.race, columns(answers.by_layer(hidden[run], moment.layer)).cpu()
            asked.append(Asked(run, then))
        now = columns(answers.by_layer(hidden)).cpu()
    race.score(lesson, now, rarity, asked)
