"""The checkpoint: the pipeline's state as bytes, safetensors with a JSON header.

A runner that is killed starts again from its last checkpoint and reads on from there. It comes to
the same heals as if it had never stopped. Each part saves and restores its own state; this module
only collects them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from bento_selfheal.core.tensors import to_bytes
from bento_selfheal.errors import CheckpointError, NewerRelease, StoreError
from bento_selfheal.healing.older_checkpoints import OLDEST, PARTS_FROM, lift
from bento_selfheal.healing.parts import Parts

FORMAT = 6
SUMMED_FROM = 5
"""The first format that ends with a checksum: a database does not say that a bit has flipped."""
SUM_BYTES = 4
LATER = ("one_sided", "segments", "candidates", "causes", "canary")
"""Parts that checkpoints of this format did not have at first; they begin afresh."""
SEPARATOR = "/"
"""Between the name of a part and that of its tensor."""


def dump(parts: Parts) -> bytes:
    """Everything that decides what the pipeline will do next."""
    tensors: dict[str, Tensor] = {}
    states: dict[str, dict[str, Any]] = {}
    for name, part in parts.stateful().items():
        state = part.state()
        own = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        tensors |= {f"{name}{SEPARATOR}{k}": v for k, v in own.items()}
        states[name] = {k: v for k, v in state.items() if k not in own}
    facts = {"format": FORMAT, "package": parts.package.tag, "parts": states}
    body = to_bytes(tensors, metadata={"selfheal": json.dumps(facts)})
    return body + _sum(body)


def restore(parts: Parts, blob: bytes) -> None:
    """Restore the state of fresh parts.

    Raises:
        CheckpointError: The checkpoint is damaged, or of a release too old to read; do not use the
            parts any more.
        NewerRelease: It is in the format of a newer one.
        StoreError: It is of another packaged model.
    """
    facts = _facts_in(blob)
    _check_format(facts["format"])
    if facts["package"] != parts.package.tag:
        raise StoreError(
            f"the checkpoint belongs to {facts['package']}, not to {parts.package.tag}"
        )
    summed = facts["format"] >= SUMMED_FROM
    try:
        tensors = load(blob[:-SUM_BYTES] if summed else blob)
        states = _states(facts, tensors)
        for name, part in parts.stateful().items():
            if name in states or name not in LATER:
                part.restore(states[name])
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the runner's checkpoint cannot be read: {error!r}") from error


def package_of(blob: bytes) -> str:
    """Tag of the packaged model that a checkpoint belongs to.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    return str(_facts_in(blob)["package"])


def _states(facts: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The state of each part, as it gave it."""
    if facts["format"] < PARTS_FROM:
        return lift(facts, tensors)
    states: dict[str, dict[str, Any]] = facts["parts"]
    for name, value in tensors.items():
        part, _, own = name.partition(SEPARATOR)
        states[part][own] = value
    return states


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
        raise CheckpointError("the runner's checkpoint is damaged: its checksum does not match")
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
