"""The right to be forgotten on a real server with tokens: over HTTP, from Python and by command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from commands import COMMAND
from conftest import wait_for
from erasing import holders
from rigs import drifting

from bento_selfheal.client import Client
from bento_selfheal.errors import AccessDenied, InvalidInput, UnknownRow
from bento_selfheal.simulation.server import ServedService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHOP, ANNA = "shop-0123456789abcdef", "anna-0123456789abcdef"
NEEDLE = [7.1234567e-3, -8.7654321e-3, 3.1415927e-3]
"""Values that no other row has."""
BAD = (
    {}, {"key": ""}, {"key": "tx-1", "prediction_id": "a.0"}, {"key": ["tx-1"]}, {"rows": 1},
    {"key": "a\0b"}, {"prediction_id": "a.0", "token": "shop"}, ["tx-1"],
)  # fmt: skip


def erased_by_command(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BENTO_SELFHEAL_URL": url, "BENTO_SELFHEAL_TOKEN": ANNA}
    return subprocess.run(
        [*COMMAND, "erase", *options], env=env, text=True, capture_output=True, timeout=120
    )


def kinds(client: Client) -> list[str]:
    return [event.kind for event in client.events()]


def test_a_row_is_forgotten(
    serve: Callable[..., ServedService], home: Path, tmp_path: Path
) -> None:
    """A row is predicted, labelled, healed on, and erased by its key: no file holds it, what
    serves never saw it, and the challengers are built anew. Roles and bodies are checked, and what
    is not there is answered alike, whatever became of it."""
    server = serve(
        workers=2, predict_tokens=f"shop={SHOP}", feedback_tokens=f"shop={SHOP}",
        operate_tokens=f"anna={ANNA}", batch_size=50,
    )  # fmt: skip
    rows, labels = drifting(clean=40, drifted=60)
    rows = rows.astype(np.float32)
    rows[70, : len(NEEDLE)] = NEEDLE
    keys = [f"tx-{n}" for n in range(len(rows))]
    with Client(server.url, token=SHOP) as shop, Client(server.url, token=ANNA) as anna:
        asked = shop.predict(rows, keys=keys)
        given: list[dict[str, Any]] = [
            {"key": key, "label": int(y)} for key, y in zip(keys, labels, strict=True)
        ]
        shop.feedback(given)
        wait_for(lambda: "heal" in kinds(anna), "a heal")
        wait_for(lambda: anna.status()["labels"]["joined"] == len(rows), "all labels are joined")
        needles = {"values": rows[70].tobytes()[: 4 * len(NEEDLE)]}
        assert list(holders(needles, tmp_path / "state")) != []

        with pytest.raises(AccessDenied):
            shop.erase("tx-70")
        for body in BAD:
            headers = {"Authorization": f"Bearer {ANNA}"}
            refused = httpx.post(f"{server.url}/erase", json=body, headers=headers, timeout=60)
            assert refused.status_code == 422, (body, refused.text)
            assert refused.json()["error"]
        with pytest.raises(InvalidInput):
            anna.erase()
        for nobody in ({"key": "nobody"}, {"key": "tx-70"}, {"prediction_id": "nobody.0"}):
            with pytest.raises(UnknownRow, match="nothing is kept"):
                anna.erase(**nobody)

        done = erased_by_command(server.url, "--key", "tx-70", "--token-name", "shop", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["erased"] is True
        wait_for(lambda: "rebuilt" in kinds(anna), "the challengers are built anew")
        assert list(holders(needles, tmp_path / "state", home)) == []
        [event] = [e for e in anna.events() if e.kind == "erased"]
        assert event.detail == {"by": "anna"}
        assert anna.status()["labels"]["joined"] == len(rows) - 1
        again = erased_by_command(server.url, "--key", "tx-70", "--token-name", "shop")
        assert again.returncode == 1
        assert "nothing is kept" in again.stderr

        assert anna.erase(prediction_id=asked.prediction_ids[3]).erased
        wait_for(lambda: kinds(anna).count("rebuilt") == 2, "they are built anew")
        assert anna.status()["labels"]["joined"] == len(rows) - 2
        late = shop.feedback([{"key": "tx-70", "label": 1}])
        assert (late.accepted, late.waiting) == (1, 1)
        serving = [s for s in anna.snapshots() if s.serving]
        assert len(serving) == 1
        shop.predict(rows[:5])
        assert anna.status()["runner_alive"]
