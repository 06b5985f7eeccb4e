"""What a line of challengers was like when the rows were asked whose labels come now.

Labels come late. An expert that knows the labels of the last minute looks better, judged as it is
now, than anything that could have been served when the rows were asked. So whoever races is judged
by what it would have said then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.mixture import under
from bento_selfheal.experts.panel import Standing
from bento_selfheal.experts.race import Race
from bento_selfheal.model import ReflexiveLayer

MOST = 16
"""Moments kept. When there are more, every second one goes: it is known less exactly then how
fresh the line was."""
MOST_CONTEXTS = 256
"""The same of the contexts, which are small."""

CONTEXTS, HEARD = "contexts", "heard"
"""Of a state: what the rows were like, and from which places of the log on."""


@dataclass(frozen=True)
class Moment:
    """A line as a heal left it."""

    predictions: int
    """Place in the log of the last prediction that was asked before."""
    layer: dict[str, Tensor]
    """Weights of its `ReflexiveLayer`"""
    race: Standing


class Past:
    """The moments of a line that rows without a label were asked at, oldest first."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self._contexts: list[tuple[int, Tensor]] = []

    def keep(self, predictions: int, layer: ReflexiveLayer, race: Race) -> None:
        """Keep what a heal left behind, at this place of the log of predictions."""
        # No copy: the average moves as a layer of its own.
        self.moments.append(Moment(predictions, dict(layer.state_dict()), race.standing()))
        if len(self.moments) > MOST:
            del self.moments[1:-1:2]
        if race.context is not None:
            self.hear(predictions, race.context)

    def hear(self, predictions: int, context: Tensor) -> None:
        """Keep what the rows are like from this place of the log of predictions on."""
        self._contexts.append((predictions, context))
        if len(self._contexts) > MOST_CONTEXTS:
            del self._contexts[1:-1:2]

    def when(self, asked: NDArray[np.int64]) -> Iterator[tuple[slice, Moment | None]]:
        """Runs of rows that were asked at the same moment, in order.

        Args:
            asked: Places of the rows' predictions in the log, ``(n,)``; -1 where there was none.

        Yields:
            The run, and its moment; None for rows that are to be asked now: they came with their
            label, or were asked before the line's first heal.
        """
        places = _places([moment.predictions for moment in self.moments], asked)
        edges = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
        for begin, end in pairwise(edges):
            if end > begin:
                place = int(places[begin])
                yield slice(begin, end), self.moments[place] if place >= 0 else None
        if len(asked) and (places >= 0).any():
            # Labels come in about the order in which their rows were asked.
            del self.moments[: max(int(places[places >= 0].min()) - 1, 0)]
            first = self.moments[0].predictions
            self._contexts = [own for own in self._contexts if own[0] >= first]

    def contexts(self, asked: NDArray[np.int64], now: Tensor) -> Tensor:
        """What the rows around each were like when it was asked, ``(n, inputs)``.

        Args:
            asked: As in `when`.
            now: What they are like now, ``(inputs,)``.
        """
        each = _places([predictions for predictions, _ in self._contexts], asked)
        return torch.stack([now if i < 0 else self._contexts[i][1] for i in each])

    def state(self) -> dict[str, Tensor]:
        """As tensors, for the checkpoint."""
        out: dict[str, Tensor] = {}
        for i, moment in enumerate(self.moments):
            out[f"{i}.predictions"] = torch.tensor(moment.predictions)
            layer = moment.layer.items()
            out.update({f"{i}.layer.{k}": v.to("cpu", copy=True) for k, v in layer})
            out[f"{i}.shares"] = torch.from_numpy(moment.race.shares.copy())
            out[f"{i}.sharpness"] = torch.tensor(moment.race.sharpness)
            for name, expert in moment.race.panel.experts.items():
                out.update({f"{i}.{name}.{k}": v.clone() for k, v in expert.changing().items()})
        if self._contexts:
            begins, contexts = zip(*self._contexts, strict=True)
            out |= {CONTEXTS: torch.stack(contexts), HEARD: torch.tensor(begins)}
        return out

    def restore(self, state: Mapping[str, Tensor], layer: ReflexiveLayer, race: Race) -> None:
        """Put back what `state` gave.

        Args:
            state: What `state` gave.
            layer: A layer of the same shape, on the device wanted.
            race: The race, which has what does not change.
        """
        self.moments = []
        for i in range(sum(key.endswith(".predictions") for key in state)):
            own, then = under(f"{i}.", state), deepcopy(layer)
            then.load_state_dict(under("layer.", own))
            experts = race.answering()
            for name, expert in experts.items():
                expert.load({**expert.buffers, **under(f"{name}.", own)})
            shares, sharpness = own["shares"].numpy(), own["sharpness"].tolist()
            standing = Standing(race.panel(experts), shares, sharpness)
            weights = dict(then.state_dict())
            self.moments.append(Moment(int(own["predictions"]), weights, standing))
        heard = state[HEARD].tolist() if HEARD in state else []
        self._contexts = list(zip(heard, state.get(CONTEXTS, ()), strict=True))


def _places(begins: Sequence[int], asked: NDArray[np.int64]) -> NDArray[np.intp]:
    """Of times that begin at places of the log, the one that each row was asked in; -1 where it was
    asked before the first."""
    return np.searchsorted(np.asarray(begins, dtype=np.int64), asked, side="left") - 1
