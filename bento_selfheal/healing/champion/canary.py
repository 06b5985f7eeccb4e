"""The canary: a healed snapshot that answers a share of the requests before it answers all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.candidates.share import in_share
from bento_selfheal.core.decision import point_of
from bento_selfheal.core.records import OperatingPoint, Snapshot
from bento_selfheal.healing.champion.snapshots import SnapshotHistory
from bento_selfheal.healing.evidence.e_process import EProcess
from bento_selfheal.healing.evidence.gate import Regret
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.scoring.losses import row_losses

MOST_ENDED = 50
FACTS = ("share", "since", "reason", "evidence", "after")
"""Of `Underway`, what a checkpoint holds as it is."""


@dataclass(frozen=True)
class Underway:
    """A snapshot that answers a share of the requests."""

    snapshot: Snapshot
    model: SelfHealingModel
    point: OperatingPoint
    """At which it decides; that of the champion moves by itself."""
    share: float
    """Share of the requests that it answers, in (0, 1)."""
    since: float
    """When it began to answer that share, in seconds since the epoch."""
    reason: str
    """Why the gate let it through."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The gate's figures."""
    after: int = 0
    """Newest place of the prediction log when it began."""

    def takes(self, name: bytes) -> bool:
        """Whether it answers a request, called by its first row's key or its own."""
        return in_share(name, self.share, self.snapshot.version)


class Canary:
    """Owns the evidence about a canary: `Regret` against the champion, on rows asked since.

    Args:
        settings: Which shares, step by step, and how many labels each takes.
        history: The snapshots known.

    Attributes:
        shares: Shares of the requests before all, in (0, 1), growing; empty where there are none.
        now: What is underway; None while nothing is.
        regret: The evidence that it is worse than the champion.
        labels: Labelled rows that it answered, at this step.
        doubt: Why it may not go on; empty while it may.
        told: Whether an event has said so while nothing could be done.
        ended: Versions that never came to answer all, the newest ones; labels of their rows may
            still come.
    """

    def __init__(self, settings: Settings, history: SnapshotHistory) -> None:
        self.shares = tuple(percent / 100 for percent in settings.canary)
        self._needed = settings.tuning.canary_labels
        self._history = history
        self.regret = Regret(settings.tuning.regret_alpha, settings.tuning.trial_rows)
        self.now: Underway | None = None
        self.labels = 0
        self.doubt, self.told = "", False
        self.ended: list[int] = []

    @property
    def version(self) -> int:
        """Version of the canary; 0 while there is none."""
        return self.now.snapshot.version if self.now else 0

    @property
    def objection(self) -> str:
        """Why nothing else may be promoted; empty while there is no canary."""
        if self.now is None:
            return ""
        return f"snapshot {self.version} answers {self.now.share:.0%} of the requests first"

    @property
    def next_share(self) -> float:
        """The share of the next step; 1 where it is the last."""
        reached = self.now.share if self.now else 0.0
        return min((share for share in self.shares if share > reached), default=1.0)

    def begin(self, canary: Underway) -> None:
        """A snapshot begins to answer its first share."""
        self.now = canary
        self.labels, self.doubt, self.told = 0, "", False
        self.regret.restart()

    def grow(self, now: float) -> Underway:
        """Take the next step, at this time in seconds since the epoch."""
        if self.now is None:
            raise RuntimeError("there is no canary whose share could grow")
        self.now = replace(self.now, share=self.next_share, since=now)
        self.labels = 0
        return self.now

    def end(self, *, serves_all: bool = False) -> None:
        """Nothing is a canary any more."""
        if self.now is not None and not serves_all:
            self.ended = [*self.ended, self.version][-MOST_ENDED:]
        self.now = None

    def distrust(self, reason: str) -> None:
        """What is underway may not go on."""
        if self.now is not None:
            self.doubt = self.doubt or reason

    def answered(self, versions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows it answered, by the version that answered each, ``(n,)``."""
        return np.asarray((versions == self.version) & (self.now is not None))

    def tried(self, versions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows a canary answered, this one or one that ended: they are not the champion's."""
        return self.answered(versions) | np.isin(versions, self.ended)

    def thresholds(self, versions: NDArray[np.int64], others: float) -> float | NDArray[np.float64]:
        """At which threshold each row was decided: one for all where it answered none.

        Args:
            versions: The version that answered each, ``(n,)``.
            others: The champion's threshold.
        """
        own = self.answered(versions)
        if self.now is None or not own.any():
            return others
        return np.where(own, self.now.point.threshold, others)

    def champions(self, batch: LabelledBatch, champion: SelfHealingModel) -> NDArray[np.float32]:
        """What was answered to a batch, and what the champion says where the canary answered."""
        own = np.flatnonzero(self.answered(batch.versions))
        if not len(own):
            return batch.served
        said = batch.served.copy()
        said[own] = batch.only(own).answers(champion)
        return said

    def take(self, batch: LabelledBatch, champion: SelfHealingModel, costs: Thresholds) -> str:
        """Take a labelled batch; why the canary is to be rolled back, or "".

        Rows that were asked since it began count, whoever answered them: of what the other did not
        answer it is known what it would have said.

        Args:
            batch: Rows with what was answered to them.
            champion: What answers the other requests.
            costs: What mistakes cost.
        """
        if self.now is None:
            return ""
        later = batch.only(np.flatnonzero(batch.asked > self.now.after))
        if not len(later):
            return ""
        own = self.answered(later.versions)
        its, others = later.answers(self.now.model).copy(), later.served.copy()
        its[own], others[own] = later.served[own], later.answers(champion)[own]
        regrets = row_losses(its, later.labels, costs) - row_losses(others, later.labels, costs)
        return self.learn(regrets, own, later.reviewed.watched)

    def learn(
        self,
        regrets: NDArray[np.floating[Any]],
        own: NDArray[np.bool_],
        scale: NDArray[np.float64],
    ) -> str:
        """Take the canary's losses less the champion's; why it is to be rolled back, or "".

        Args:
            regrets: On labelled rows, ``(n,)``.
            own: Which of them it answered, ``(n,)``.
            scale: What each counts, ``(n,)``.
        """
        self.labels += int((own & (scale > 0)).sum())
        return self.regret.update((regrets * scale).clip(-1, 1))

    @property
    def due(self) -> bool:
        """Whether it may take the next step: labels enough came, and none speaks of harm."""
        process = self.regret.process
        enough = self.now is not None and self.labels >= self._needed
        return enough and not self.doubt and process.mean <= process.error

    def status(self) -> dict[str, Any] | None:
        """As JSON values; None while there is no canary."""
        if self.now is None:
            return None
        process = self.regret.process
        return {
            "version": self.version,
            "share": self.now.share,
            "next_share": self.next_share,
            "since": self.now.since,
            "labels": self.labels,
            "labels_needed": self._needed,
            "compared": process.count,
            "threshold": self.now.point.threshold,
            "mean_regret": process.mean,
            "standard_error": process.error,
            "log_e": process.log_e,
        }

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        now = self.now
        return {
            "now": now
            and {
                "version": self.version, "point": now.point.as_dict(), "share": now.share,
                "since": now.since, "reason": now.reason, "evidence": dict(now.evidence),
                "after": now.after,
            },
            "regret": asdict(self.regret.process),
            "labels": self.labels,
            "doubt": self.doubt,
            "told": self.told,
            "ended": self.ended,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave; nothing is underway where it is damaged.

        The history must be restored before.
        """
        kept, self.ended = state["now"], state["ended"]
        if kept is None:
            return
        snapshot = self._history.snapshots.get(kept["version"])
        model = None if snapshot is None else self._history.load_known(snapshot)
        if snapshot is None or model is None:
            return
        point = point_of(kept["point"])
        facts = {name: kept[name] for name in FACTS}
        self.now = Underway(snapshot, model, point, **facts)
        self.regret.process = EProcess(**state["regret"])
        self.labels, self.doubt, self.told = state["labels"], state["doubt"], state["told"]
