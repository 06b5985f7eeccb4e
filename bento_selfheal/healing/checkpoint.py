"""The runner's whole mind as bytes, and back: safetensors with a JSON header.

A runner that is killed starts from its last checkpoint and reads the logs on from there; as
the pipeline is exact, it comes to the same heals as if it had never stopped.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bento_selfheal.core.records import (
    FeedbackRecord,
    OperatingPoint,
    Phase,
    PointKind,
    Snapshot,
    State,
)
from bento_selfheal.errors import CheckpointError, NewerRelease, StoreError
from bento_selfheal.healing.drift.fidi import SignalReading
from bento_selfheal.healing.evidence.e_process import EProcess
from bento_selfheal.healing.evidence.gate import Trial
from bento_selfheal.healing.labels.join import JoinedRow
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.healing.scoreboard import Scoreboard
from bento_selfheal.scoring.scores import Scores

FORMAT = 5
OLDEST = 4
SUMMED_FROM = 5
"""The first format that ends with a checksum: a database does not say that a bit has flipped."""
SUM_BYTES = 4
KEY_BYTES = 16
PLAIN = (
    "start_from", "predictions_from", "feedback_from", "commands_from", "promotion_seq", "paused",
    "asked", "history.next_version", "limit.lifts", "drift.recent", "drift.fallen", "last", "delay",
    "losses", "unlabelled", "opened_at", "healed_at", "limit.retrain", "limit.reached", "changed",
)  # fmt: skip
"""Where values lie in the pipeline that are JSON as they are; kept under the last name."""


def dump(pipeline: Pipeline) -> bytes:
    """Everything that decides what the pipeline will do next."""
    tensors: dict[str, Tensor] = {
        "open_rows": torch.from_numpy(pipeline.open_rows.copy()),
        "open_answers": torch.from_numpy(pipeline.open_answers.copy()),
        "buffer_features": torch.from_numpy(pipeline.buffer.features.copy()),
        "buffer_labels": torch.from_numpy(pipeline.buffer.labels.copy()),
        "buffer_weights": torch.from_numpy(pipeline.buffer.weights.copy()),
        "buffer_places": torch.from_numpy(pipeline.buffer.places.copy()),
        "buffer_keys": _keys_tensor(pipeline.buffer.keys),
        "open_label_rows": _rows_tensor(pipeline),
        "anchor": pipeline.anchor.weights.clone(),
    }
    tensors |= {f"challenger.{k}": v for k, v in pipeline.challenger.model.adapter_state().items()}
    tensors |= {f"average.{k}": v for k, v in pipeline.challenger.answers.adapter_state().items()}
    tensors |= {f"moments.{k}": v for k, v in pipeline.challenger.moments().items()}
    body = save(tensors, metadata={"selfheal": json.dumps(_facts(pipeline))})
    return body + _sum(body)


def restore(pipeline: Pipeline, blob: bytes) -> None:
    """Put a fresh pipeline where another one was.

    Raises:
        CheckpointError: The checkpoint is damaged, or of a release too old to read; the pipeline
            is of no use any more.
        NewerRelease: It is in the format of a newer one.
        StoreError: It is of another packaged model.
    """
    facts = _facts_in(blob)
    _check_format(facts["format"])
    if facts["package"] != pipeline.package.tag:
        raise StoreError(f"the checkpoint is of {facts['package']}, not of {pipeline.package.tag}")
    summed = facts["format"] >= SUMMED_FROM
    try:
        _restore(pipeline, load(blob[:-SUM_BYTES] if summed else blob), facts)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the runner's checkpoint cannot be read: {error!r}") from error


def _restore(pipeline: Pipeline, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    for path in PLAIN:
        part, _, name = path.rpartition(".")
        setattr(attrgetter(part)(pipeline) if part else pipeline, name, facts[name])
    # A checkpoint of an older release knows no such words.
    pipeline.told_to_observe = facts.get("told_to_observe", False)
    pipeline.opened_time = facts.get("opened_time", 0.0)
    pipeline.set_aside.restore(facts.get("set_aside", {}))
    pipeline.state = State(facts["state"])
    pipeline.drift.reading = SignalReading(**facts["reading"])
    pipeline.drift.fidi.window.extend(facts["fidi"])
    pipeline.open_rows = tensors["open_rows"].numpy()
    pipeline.open_answers = tensors["open_answers"].numpy()
    pipeline.buffer.restore(
        tensors["buffer_features"].numpy(),
        tensors["buffer_labels"].numpy(),
        [row.tobytes() for row in tensors["buffer_keys"].numpy()],
        _sources(facts["buffer_sources"]),
        tensors["buffer_weights"].numpy(),
        tensors["buffer_places"].numpy(),
    )
    pipeline.sources.restore(facts["sources"])
    pipeline.drift.watch.restore(facts["watch"])
    pipeline.drift.agreement.recent = [(hits, rows) for hits, rows in facts["agreement"]]
    pipeline.rule_record.counts = np.asarray(facts["rules"])
    pipeline.rules.trust = np.asarray(facts["trust"])
    pipeline.open_labels = [
        JoinedRow(key=bytes.fromhex(row.pop("key")), features=features, **row)
        for row, features in zip(
            facts["open_labels"], tensors["open_label_rows"].numpy(), strict=True
        )
    ]
    pipeline.joiner.restore([_feedback(row) for row in facts["waiting"]], facts["unmatched"])
    _restore_heals(pipeline, tensors, facts)


def package_of(blob: bytes) -> str:
    """Tag of the packaged model that a checkpoint belongs to.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    return str(_facts_in(blob)["package"])


def _restore_heals(pipeline: Pipeline, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    history = pipeline.history
    history.snapshots = {
        row["version"]: Snapshot(**{**row, "phase": Phase(row["phase"])})
        for row in facts["history"]
    }
    history.trained = {int(v): place for v, place in facts.get("trained", {}).items()}
    history.measured = {int(v): Scores(**s) for v, s in facts["measured"].items()}
    scoreboard = dict(facts["tally"])
    for name in ("champion", "shadow", "challenger"):
        scoreboard[name] = Scores(**scoreboard[name])
    pipeline.scoreboard = Scoreboard(**scoreboard)
    gate = facts["gate"]
    pipeline.gate.process = EProcess(**gate["process"])
    pipeline.gate.trials, pipeline.gate.proven = gate["trials"], gate["proven"]
    pipeline.regret.process = EProcess(**facts["regret"])
    pipeline.calibration.restore(**facts["calibration"])
    point = facts["operating"]
    pipeline.operating = OperatingPoint(point["threshold"], PointKind(point["kind"]))
    for name, value in facts["estimate"].items():
        setattr(pipeline.estimate, name, value)
    if facts["trial"] is not None:
        trial = dict(facts["trial"])
        pipeline.trial = Trial(**{**trial, "scores": Scores(**trial["scores"])})
    baseline = facts["health"]["baseline"]
    pipeline.health.baseline = tuple(baseline) if baseline else None
    pipeline.health.recent.extend(tuple(pair) for pair in facts["health"]["recent"])
    if facts["serving"] is not None:
        pipeline.resume_serving(
            history.snapshots[facts["serving"]], history.snapshots.get(facts["home"])
        )
    pipeline.challenger = pipeline.new_challenger()
    pipeline.challenger.load(_under("challenger.", tensors), _under("average.", tensors))
    for name in ("rounds", "seen", "pace"):
        setattr(pipeline.challenger, name, facts[name])
    pipeline.challenger.load_moments(_under("moments.", tensors))
    pipeline.anchor.weights = tensors["anchor"]
    pipeline.anchor.fitted = facts["anchor_fitted"]


def _facts(p: Pipeline) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "package": p.package.tag,
        **{path.rpartition(".")[2]: attrgetter(path)(p) for path in PLAIN},
        "told_to_observe": p.told_to_observe,
        "opened_time": p.opened_time,
        "state": p.state,
        "reading": asdict(p.drift.reading),
        "fidi": list(p.drift.fidi.window),
        "open_labels": [_label_facts(row) for row in p.open_labels],
        "waiting": [_feedback_facts(given) for given in p.joiner.pending()],
        "unmatched": p.joiner.unmatched,
        "set_aside": p.set_aside.state(),
        "history": [asdict(s) for s in p.history.snapshots.values()],
        "trained": {str(v): place for v, place in p.history.trained.items()},
        "measured": {str(v): asdict(s) for v, s in p.history.measured.items()},
        "serving": p.serving.version if p.serving else None,
        "trial": asdict(p.trial) if p.trial else None,
        "gate": {
            "process": asdict(p.gate.process),
            "trials": p.gate.trials,
            "proven": p.gate.proven,
        },
        "regret": asdict(p.regret.process),
        "home": p.home.version if p.home else None,
        "rounds": p.challenger.rounds,
        "seen": p.challenger.seen,
        "pace": p.challenger.pace,
        "anchor_fitted": p.anchor.fitted,
        "buffer_sources": _runs(p.buffer.sources),
        "sources": p.sources.state(),
        "watch": p.drift.watch.state(),
        "agreement": p.drift.agreement.recent,
        "rules": p.rule_record.counts.tolist(),
        "trust": p.rules.trust.tolist(),
        "calibration": {
            "rows": list(p.calibration.rows),
            "unlabelled": list(p.calibration.unlabelled),
        },
        "operating": {"threshold": p.operating.threshold, "kind": p.operating.kind},
        "estimate": {
            "accuracy": p.estimate.accuracy,
            "off": p.estimate.off,
            "checks": p.estimate.checks,
        },
        "health": {"baseline": p.health.baseline, "recent": list(p.health.recent)},
        "tally": asdict(p.scoreboard),
    }


def _runs(sources: list[str | None]) -> list[tuple[str | None, int]]:
    """Sources as runs: most rows come from one after the other."""
    return [(name, len(list(group))) for name, group in groupby(sources)]


def _sources(runs: list[tuple[str | None, int]]) -> list[str | None]:
    return [name for name, count in runs for _ in range(count)]


def _facts_in(blob: bytes) -> dict[str, Any]:
    """The facts of a checkpoint that is whole, in any format."""
    header_size = int.from_bytes(blob[:8], "little")
    try:
        header = json.loads(blob[8 : 8 + header_size])
        facts: dict[str, Any] = json.loads(header["__metadata__"]["selfheal"])
        summed = facts["format"] >= SUMMED_FROM
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError("the runner's checkpoint is damaged: it has no header") from error
    if summed and _sum(blob[:-SUM_BYTES]) != blob[-SUM_BYTES:]:
        raise CheckpointError("the runner's checkpoint is damaged: its checksum does not fit")
    return facts


def _check_format(found: int) -> None:
    if found > FORMAT:
        raise NewerRelease(
            f"the runner's checkpoint is in format {found} and this release knows {FORMAT}; "
            "serve it with the release that made it"
        )
    if found < OLDEST:
        raise CheckpointError(
            f"the runner's checkpoint is in format {found} of an older release; this one reads "
            f"{OLDEST} to {FORMAT}"
        )


def _sum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(SUM_BYTES, "big")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _keys_tensor(keys: list[bytes]) -> Tensor:
    flat = np.frombuffer(b"".join(keys), dtype=np.uint8).copy()
    return torch.from_numpy(flat.reshape(len(keys), KEY_BYTES))


def _rows_tensor(pipeline: Pipeline) -> Tensor:
    width = len(pipeline.package.info.features)
    rows = [row.features for row in pipeline.open_labels]
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros((0, width))


def _label_facts(row: JoinedRow) -> dict[str, Any]:
    facts = {k: v for k, v in row.__dict__.items() if k != "features"}
    return {**facts, "key": row.key.hex()}


def _feedback_facts(given: FeedbackRecord) -> dict[str, Any]:
    return {**given.__dict__, "request": given.request.hex()}


def _feedback(row: dict[str, Any]) -> FeedbackRecord:
    return FeedbackRecord(**{**row, "request": bytes.fromhex(row["request"])})
