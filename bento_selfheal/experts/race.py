"""The race: experts learn side by side, and the better they said beforehand, the more they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MethodType
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.kinds.context import before_each, context_of
from bento_selfheal.experts.lesson import Lesson
from bento_selfheal.experts.mixture import FROZEN, LAYER, REACH, Mixture, Voice, log_odds, under
from bento_selfheal.experts.panel import Panel, Standing
from bento_selfheal.experts.record import SHARPNESS, Record, Said
from bento_selfheal.experts.table import make_experts

LEAST_SHARE = 0.01
"""An expert with a smaller share says nothing: what serves stays quick."""
SMALLEST_SPREAD = 1e-3
DISTINCT = 0.99
"""Share of different rows in the reference set from which on a row that comes again is known."""
ROUND = 25
MOST_STUDIED = 2000
"""Labels that are not new from which experts learn; older ones would be forgotten anyway."""


@dataclass(frozen=True)
class Asked:
    """Rows that follow each other and were asked at one moment."""

    run: slice
    then: tuple[Standing, Tensor] | None = None
    """The race of then, and what the model with its layer of then says of them, ``(n, classes)``;
    None where that is now"""


ALL_NOW = (Asked(slice(None)),)


class Race:
    """All experts, with a record of what they said of labels that they had not learned yet.

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
        together: dict[object, list[Expert]] = {}
        for expert in self.experts.values():
            kind = cast(MethodType, expert.learn_together).__func__
            together.setdefault(kind, []).append(expert)
        self._groups = list(together.values())
        self._panel: Panel | None = None
        self._mixture: Mixture | None = None
        self.seen = 0
        self._record = Record([FROZEN, LAYER, *self.experts], classes)

    def score(
        self, lesson: Lesson, layer: Tensor, rarity: float = 1.0, asked: Sequence[Asked] = ALL_NOW
    ) -> None:
        """Score everybody on labels that are new to all.

        Args:
            lesson: The rows.
            layer: What the model with its layer says of them now, ``(n, classes)``.
            rarity: How many times longer losses count, where one class has almost all rows.
            asked: When each run of them was asked.
        """
        self._mixture = None
        rows = self._seen(lesson)
        said = _say(rows, layer, lesson.context, self._as_now())
        for one in asked:
            part, now = lesson.part(one.run), said[:, one.run]
            if one.then is None:
                self._record.note(part, rarity, now, now)
                continue
            standing, layer_then = one.then
            asked_rows = rows[0][one.run], rows[1][one.run]
            past = _say(asked_rows, layer_then, part.context, standing.panel)
            self._record.note(part, rarity, now, past)
            self._record.weigh(part, rarity, past, standing.shares, standing.sharpness)

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
        return context_of(self.experts.values())

    def surround(self, inputs: Tensor) -> None:
        """Hear what the newest rows are like, of which no label is known.

        Args:
            inputs: Scaled inputs, as they are the last columns of hidden vectors, ``(n, inputs)``.
        """
        ahead = len(self._clean.centre) - inputs.shape[1]
        scaled = self._clean.scale(functional.pad(inputs, (ahead, 0)))
        for expert in self.experts.values():
            expert.surround(scaled)
        if self._panel is not None and self.context is not None:
            self._panel = self._panel.in_context(self.context)
        if self._mixture is not None and self.context is not None:
            self._mixture = self._mixture.in_context(self.context)

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
        return Standing(self._as_now(), self._record.shares(), self._record.sharpest())

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
        """The experts as they are now, by their shares; put together once for as long as nobody is
        scored and nobody learns."""
        self._mixture = self._mixture or self._mixed()
        return self._mixture

    def _mixed(self) -> Mixture:
        shares = self._record.heard()
        shares[shares < LEAST_SHARE] = 0.0
        shares /= shares.sum()
        experts, sharp = self._as_now().experts, self._record.sharpest()
        voices = {
            name: Voice(share, SHARPNESS[place], experts.get(name))
            for name, share, place in zip(self._record.names, shares.tolist(), sharp, strict=True)
            if share > 0
        }
        return Mixture(**self._clean.scales, classes=self._clean.classes, voices=voices)

    def _in_a_row(self, lesson: Lesson) -> Lesson:
        """The lesson in the context of its own rows, which were asked one after the other."""
        if (now := self.context) is None or lesson.context is not None:
            return lesson
        rows = self._clean.scale(lesson.hidden)[:, -len(now) :]
        return replace(lesson, context=before_each(rows, ROUND))

    def _seen(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Scaled hidden vectors and frozen odds."""
        return self._clean.scale(lesson.hidden), log_odds(lesson.frozen)

    def _teach(self, lesson: Lesson) -> None:
        self._panel = self._mixture = None
        scaled, odds = self._seen(lesson)
        with torch.no_grad():
            for group in self._groups:
                seen = [expert.view(scaled, lesson.context) for expert in group]
                group[0].learn_together(group, seen, odds, lesson.labels, lesson.weights)

    def state(self) -> dict[str, Tensor]:
        """All that it goes on from, for a package or a checkpoint."""
        out = {**self._clean.scales, "seen": torch.tensor(self.seen), **self._record.state()}
        for name, expert in self.experts.items():
            out.update({f"{name}.buffer.{k}": v.clone() for k, v in expert.buffers.items()})
            out.update({f"{name}.memory.{k}": v.clone() for k, v in expert.memory().items()})
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            RuntimeError: It is the state of a race of others, or over other hidden vectors.
        """
        self._record.restore(state)
        for name in self._clean.scales.keys() & state.keys():
            setattr(self._clean, name, state[name])
        self.seen = int(state["seen"])
        self._panel = self._mixture = None
        for name, expert in self.experts.items():
            expert.load(under(f"{name}.buffer.", state))
            expert.remember(under(f"{name}.memory.", state))


def _say(rows: tuple[Tensor, Tensor], layer: Tensor, context: Tensor | None, panel: Panel) -> Said:
    """What the frozen model, its layer and a panel say of scaled rows with their odds."""
    scaled, odds = rows
    alone = np.stack([odds.numpy(), log_odds(layer).numpy()])
    return np.concatenate([alone, panel.say(scaled, odds, context)])
