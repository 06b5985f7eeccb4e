"""The race: experts learn side by side, and the better they said beforehand, the more they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bento_selfheal.experts.expert import Expert, one_hot
from bento_selfheal.experts.kinds.context import before_each, context_of
from bento_selfheal.experts.lesson import Lesson
from bento_selfheal.experts.mixture import FROZEN, LAYER, REACH, Mixture, Voice, log_odds, under
from bento_selfheal.experts.panel import Panel, Standing
from bento_selfheal.experts.table import make_experts

SHARPNESS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
"""An expert's log probabilities are multiplied by the one of these that would have been best."""
_SHARPNESS = torch.tensor(SHARPNESS)
AS_SAID = SHARPNESS.index(1.0)
HALF_LIFE = 600.0
"""Labels after which a log loss counts half."""
BRIER = 0.75
"""Share of the Brier score in the loss that decides on shares, as in the gate's; the rest is
whether the decision was wrong."""
THEN, NOW = 0, 1
"""Whose answers an opinion looks at: everybody's as they were when rows were asked, or now."""


@dataclass(frozen=True)
class Opinion:
    """One way to turn losses into shares."""

    looks: int
    half_life: float
    """Labels after which a loss counts half"""
    rate: float
    """Nats that a difference of 1 in the summed losses makes between two shares. Slowly, good
    experts answer together, which is better than the best of them; fast, the one that is far ahead
    does."""


OPINIONS = (
    Opinion(THEN, 300, 0.02),
    Opinion(THEN, 3000, 0.02),
    Opinion(THEN, 600, 0.1),
    Opinion(THEN, 300, 1.0),
    Opinion(NOW, 600, 0.2),
    Opinion(NOW, 600, 1.0),
)
HEARD_HALF_LIFE, HEARD_RATE = 1200.0, 0.5
"""How opinions are weighed themselves, by what each would have answered when rows were asked."""
AHEAD = 2.0
"""Summed loss by which the frozen model is ahead of everybody before there are labels."""
LEAST_SHARE = 0.01
"""An expert with a smaller share says nothing: what serves stays quick."""
FLOOR = 1e-3
"""Least probability of the truth in a log loss: one surprise is not the end."""
SMALLEST_SPREAD = 1e-3
DISTINCT = 0.99
"""Share of different rows in the reference set from which on a row that comes again is known."""
ROUND = 25
MOST_STUDIED = 2000
"""Labels that are not new from which experts learn; older ones would be forgotten anyway."""


class Race:
    """All experts, with their losses on labels that they had not learned yet.

    Experts are weighted by their loss as the gate knows it: log loss would trust who is calibrated
    over who is right, and is only asked how sharp each expert should be. Opinions of the shares
    (`OPINIONS`) differ in what they look at and in how fast they follow it. Labels come late, and
    who knows the newest ones looks better now than it could have answered when the rows were asked;
    but after a sudden change only what is said now tells who learns fast. What each opinion would
    have answered decides between them.

    Args:
        hidden: Hidden vectors of clean rows, ``(m, width)``, whose mean and spread scale all; many
            of them: the spread of what is rarely other than 0 is known from many rows only.
        classes: Number of classes.
        inputs: How many of the last columns are the scaled inputs; 0 where none are.

    Attributes:
        experts: Everybody but the frozen model and the layer, by name.
        seen: New labels learned.
    """

    def __init__(self, hidden: Tensor, classes: int, inputs: int = 0) -> None:
        spread = hidden.std(dim=0, correction=0)
        spread = torch.where(spread < SMALLEST_SPREAD, torch.ones_like(spread), spread)
        centre = hidden.mean(dim=0)
        farthest = ((hidden - centre) / spread).abs().amax(dim=0)
        self._clean = Mixture(centre, spread, farthest.clamp_min(REACH), classes)
        self._repetitive = len(torch.unique(hidden, dim=0)) < DISTINCT * len(hidden)
        self.experts: dict[str, Expert] = make_experts(hidden.shape[1], classes, inputs)
        self._panel: Panel | None = None
        self.seen = 0
        self._log_losses = torch.zeros(len(self.names), len(SHARPNESS), dtype=torch.float64)
        self._losses = torch.zeros(len(OPINIONS), len(self.names), dtype=torch.float64)
        self._opinions = torch.zeros(len(OPINIONS), dtype=torch.float64)

    @property
    def names(self) -> list[str]:
        """Who takes part, in the order of the losses."""
        return [FROZEN, LAYER, *self.experts]

    def score(
        self,
        lesson: Lesson,
        layer: Tensor,
        rarity: float = 1.0,
        then: tuple[Standing, Tensor] | None = None,
    ) -> None:
        """Score everybody on labels that are new to all.

        Args:
            lesson: The rows.
            layer: What the model with its layer says of them now, ``(n, classes)``.
            rarity: How many times longer losses count, where one class has almost all rows.
            then: The race when the rows were asked, and what the model with its layer of then says
                of them; None where that is now.
        """
        count = float(lesson.weights.sum()) / rarity
        now = self._say(lesson, layer, self._as_now())
        past = now if then is None else self._say(lesson, then[1], then[0].panel)
        missed = self._missed(_chosen(torch.stack([past, now]), self._sharpest()), lesson)
        fades = torch.tensor([[0.5 ** (count / opinion.half_life)] for opinion in OPINIONS])
        self._losses = self._losses * fades + missed[[opinion.looks for opinion in OPINIONS]]
        if then is not None:
            answers = _chosen(past, then[0].sharpness)
            mixed = torch.einsum("ok,knc->onc", then[0].shares, answers)
            fade = 0.5 ** (count / HEARD_HALF_LIFE)
            self._opinions = self._opinions * fade + self._missed(mixed, lesson)
        each = torch.log_softmax(_SHARPNESS[:, None, None] * past.unsqueeze(1), dim=3)
        truth = each[:, :, torch.arange(len(lesson)), lesson.labels.long()]
        truth = truth.double().exp().clamp_min(FLOOR)
        fresh = -(truth.log() * lesson.weights.double()).sum(dim=2)
        self._log_losses = self._log_losses * 0.5 ** (count / HALF_LIFE) + fresh

    def unknown(self, lesson: Lesson, repeats: NDArray[np.bool_] | None) -> Lesson:
        """The lesson as experts are scored on it: rows that came with a label before count nothing.

        Where requests are repeated, knowing labels by heart would pass for knowing the world. Where
        rows are as few as in the reference set, of a few categories, they do count.
        """
        if repeats is None or self._repetitive:
            return lesson
        return replace(lesson, weights=lesson.weights * torch.from_numpy(~repeats))

    @property
    def context(self) -> Tensor | None:
        """What the newest rows are like, ``(inputs,)``; None where nobody wants to know."""
        return context_of(self.experts)

    def surround(self, inputs: Tensor) -> None:
        """Hear what the newest rows are like, of which no label is known.

        Args:
            inputs: Scaled inputs, as they are the last columns of hidden vectors, ``(n, inputs)``.
        """
        self._panel = None
        ahead = len(self._clean.centre) - inputs.shape[1]
        scaled = self._clean.scale(nn.functional.pad(inputs, (ahead, 0)))
        for expert in self.experts.values():
            expert.surround(scaled)

    def learn(self, lesson: Lesson) -> None:
        """Learn new labels."""
        self.seen += len(lesson)
        self._teach(lesson)

    def study(self, lesson: Lesson) -> None:
        """Learn older rows, of which the newest count; nobody is scored on them."""
        lesson = self._in_a_row(lesson)
        for at in range(max(len(lesson) - MOST_STUDIED, 0), len(lesson), ROUND):
            self._teach(lesson.part(slice(at, at + ROUND)))

    def examine(self, lesson: Lesson, repeats: NDArray[np.bool_] | None = None) -> None:
        """Score everybody on rows that nobody knows, round by round, then learn them; the layer
        counts as what the frozen model is."""
        scored = self.unknown(lesson := self._in_a_row(lesson), repeats)
        for at in range(0, len(lesson), ROUND):
            part = slice(at, at + ROUND)
            self.score(scored.part(part), lesson.frozen[part])
            self._teach(lesson.part(part))

    def standing(self) -> Standing:
        """The race as it is now, to be asked later."""
        return Standing(self._as_now(), self._shares(), self._sharpest())

    def panel(self, experts: Mapping[str, Expert]) -> Panel:
        """Experts over the same hidden vectors, to be asked together."""
        return Panel(experts, len(self._clean.centre), self._clean.classes)

    def answering(self) -> dict[str, Expert]:
        """A copy of everybody, by name, that does not learn."""
        return {name: expert.answering() for name, expert in self.experts.items()}

    def _as_now(self) -> Panel:
        """Everybody as they are now, put together once for as long as they learn nothing."""
        self._panel = self._panel or self.panel(self.answering())
        return self._panel

    def mixture(self) -> Mixture:
        """The experts as they are now, by their shares."""
        opinions = torch.softmax(-HEARD_RATE * self._opinions, dim=0)
        shares = opinions @ self._shares()
        shares = torch.where(shares < LEAST_SHARE, torch.zeros_like(shares), shares)
        shares = shares / shares.sum()
        experts, sharp = self._as_now().experts, self._sharpest()
        voices = {
            name: Voice(share, SHARPNESS[place], experts.get(name))
            for name, share, place in zip(self.names, shares.tolist(), sharp, strict=True)
            if share > 0
        }
        return Mixture(**self._clean.scales, classes=self._clean.classes, voices=voices)

    def _in_a_row(self, lesson: Lesson) -> Lesson:
        """The lesson in the context of its own rows, which were asked one after the other."""
        if (now := self.context) is None or lesson.context is not None:
            return lesson
        rows = self._clean.scale(lesson.hidden)[:, -len(now) :]
        return replace(lesson, context=before_each(rows, ROUND))

    def _shares(self) -> Tensor:
        """Of each opinion, ``(opinions, names)``."""
        behind = self._losses - self._losses.min(dim=1, keepdim=True).values
        behind[:, 1:] += AHEAD
        rates = torch.tensor([[opinion.rate] for opinion in OPINIONS], dtype=torch.float64)
        return torch.softmax(-rates * behind, dim=1)

    def _sharpest(self) -> list[int]:
        """For each the place of its best sharpness so far."""
        best = self._log_losses.argmin(dim=1).tolist()
        return best if self._log_losses.any() else [AS_SAID] * len(best)

    def _missed(self, probabilities: Tensor, lesson: Lesson) -> Tensor:
        """Summed losses of probabilities ``(..., n, classes)``, ``(...)``."""
        truth = one_hot(lesson.labels, self._clean.classes)
        brier = (probabilities - truth).square().sum(dim=-1) / 2
        wrong = probabilities.argmax(dim=-1) != lesson.labels.long()
        return ((BRIER * brier + (1 - BRIER) * wrong) * lesson.weights.double()).sum(dim=-1)

    def _say(self, lesson: Lesson, layer: Tensor, panel: Panel) -> Tensor:
        """Log probabilities up to a constant of everybody, ``(names, n, classes)``."""
        scaled, odds = self._clean.scale(lesson.hidden), log_odds(lesson.frozen)
        alone = torch.stack([odds, log_odds(layer)])
        return torch.cat([alone, panel.say(scaled, odds, lesson.context)])

    def _teach(self, lesson: Lesson) -> None:
        self._panel = None
        scaled, odds = self._clean.scale(lesson.hidden), log_odds(lesson.frozen)
        with torch.no_grad():
            for expert in self.experts.values():
                seen = expert.view(scaled, lesson.context)
                expert.learn(seen, odds, lesson.labels, lesson.weights)

    def state(self) -> dict[str, Tensor]:
        """All that it goes on from, for a package or a checkpoint."""
        out = {
            **self._clean.scales,
            "seen": torch.tensor(self.seen), "opinions": self._opinions.clone(),
        }  # fmt: skip
        for i, name in enumerate(self.names):
            out[f"{name}.log_losses"] = self._log_losses[i].clone()
            out[f"{name}.losses"] = self._losses[:, i].clone()
        for name, expert in self.experts.items():
            out.update({f"{name}.buffer.{k}": v.clone() for k, v in expert.named_buffers()})
            out.update({f"{name}.memory.{k}": v.clone() for k, v in expert.memory().items()})
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            RuntimeError: It is the state of a race of others, or over other hidden vectors.
        """
        missing = sorted({"opinions", *(f"{name}.losses" for name in self.names)} - set(state))
        if missing:
            raise RuntimeError(f"the race has no {', '.join(missing)}")
        if len(state["opinions"]) != len(OPINIONS):
            given = len(state["opinions"])
            raise RuntimeError(f"the race has {given} opinions, {len(OPINIONS)} are expected")
        for name in self._clean.scales.keys() & state.keys():
            setattr(self._clean, name, state[name])
        self.seen, self._opinions = int(state["seen"]), state["opinions"]
        self._log_losses = torch.stack([state[f"{name}.log_losses"] for name in self.names])
        self._losses = torch.stack([state[f"{name}.losses"] for name in self.names], dim=1)
        self._panel = None
        for name, expert in self.experts.items():
            expert.load(under(f"{name}.buffer.", state))
            expert.remember(under(f"{name}.memory.", state))


def _chosen(said: Tensor, sharpness: list[int]) -> Tensor:
    """Probabilities of everybody, each as sharp as is best, ``(..., names, n, classes)``."""
    return torch.softmax(_SHARPNESS[sharpness][:, None, None] * said, dim=-1).double()
