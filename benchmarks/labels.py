"""What own keys cost: predictions with and without them, and labels by key; and what is served
where only one class is ever reported (`unreported`).

    make bench-labels             hours: the last row streams 700,000 rows twice
    python benchmarks/labels.py requests labels bulk   minutes

Names of rows may follow the command; the others stay as they are.

One server is asked with keys and without in turn, in short bursts, so that what else the machine
does weighs on both alike; medians over the bursts. No key comes twice. Writes
benchmarks/results/labels.json and the table in docs/labels.md.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from durable import BATCH
from record import article_home, record
from serving import BIN, json_body, npy_body, ours, wrk
from unreported import positives_only
from wire import post, send

from bento_selfheal.store import SqlStore
from bento_selfheal.wire.messages import KEYS_HEADER, NPY

BURSTS = 5
ROUNDS = 3
LABELS = 100_000
ASKED = 1000
"""Rows of a request that makes keys known."""
BULK = 1_000_000
"""Rows of a file of labels."""


def keys_of(rows: int, start: int = 0) -> list[str]:
    """Keys as long as those of payments are."""
    return [f"tx-2026-11-{n:012}" for n in range(start, start + rows)]


FRESH = """
local n = {start}
local plain = wrk.body
local open = plain:sub(1, -2) .. ',"keys":['
function request()
  local keys = {{}}
  for i = 1, {rows} do keys[i] = string.format('"tx-2026-11-%012d"', n + i) end
  n = n + {rows}
  local told = table.concat(keys, ",")
  {send}
end
"""
"""Lua that makes each request of wrk with keys that never came before; without them it makes them
all the same, so that both take it as long."""
WITHOUT = "return wrk.format(nil, nil, nil, plain)"
IN_BODY = "return wrk.format(nil, nil, nil, open .. told .. ']}')"
IN_HEADER = f'wrk.headers["{KEYS_HEADER}"] = "[" .. told .. "]"; return wrk.format()'


def requests(home: Path) -> dict[str, Any]:
    """Requests a second without keys and with them, by rows and kind of body."""
    npy = {"content_type": NPY, "accept": NPY}
    kinds: dict[str, tuple[int, bytes, str, dict[str, str]]] = {
        "1 row": (1, json_body(1), IN_BODY, {}),
        "100 rows": (100, json_body(100), IN_BODY, {}),
        "100 rows, .npy": (100, npy_body(100), IN_HEADER, npy),
    }
    found = {}
    with ours(home, workers=1) as port:
        for n, (name, (rows, body, how, headers)) in enumerate(kinds.items()):
            rates: dict[str, list[float]] = {WITHOUT: [], how: []}
            for burst in range(BURSTS + 1):
                for send_it, seen in rates.items():
                    start = (n * 100 + burst) * 10**8
                    fresh = FRESH.format(start=start, rows=rows, send=send_it)
                    seen.append(wrk(port, body, more=fresh, **headers))
            without, with_keys = rates.values()
            pairs = list(zip(without, with_keys, strict=True))[1:]  # the first burst warms
            found[name] = {
                "without": round(median(without[1:])), "with_keys": round(median(with_keys[1:])),
                "ratio": round(median(w / wo for wo, w in pairs), 3),
                "bursts": [round(w / wo, 3) for wo, w in pairs],
            }  # fmt: skip
            print(name, found[name], flush=True)
    return found


def labels(home: Path) -> dict[str, Any]:
    """Labels a second that `/feedback` acknowledges as durable, in batches of 100, by key; their
    predictions are in the log. On SQLite, in fresh stores."""
    rates = []
    for n in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=home) as folder:
            url = f"sqlite:///{Path(folder) / 'selfheal.db'}"
            with (
                ours(home, workers=2, state_dir=folder, store_url=url) as port,
                closing(SqlStore(url)) as store,
            ):
                rates.append(_labels_a_second(port, store, n))
    return {"labels_a_second": round(median(rates)), "rounds": [round(r) for r in rates]}


def _labels_a_second(port: int, store: SqlStore, seed: int) -> float:
    keys = [str(key) for key in np.random.default_rng(seed).permutation(keys_of(LABELS))]
    rows = json.loads(json_body(ASKED))["rows"]
    asked = [{"rows": rows, "keys": part} for part in _parts(keys, ASKED)]
    if send(port, [post("/predict", json.dumps(one).encode()) for one in asked]).failed:
        raise RuntimeError("predictions failed")
    wait_until(lambda: store.ends()[0] >= len(asked), 60)
    draw = np.random.default_rng(seed + 1)
    given = list(_items([str(key) for key in draw.permutation(keys)]))
    timings = send(port, given, connections=16)
    with closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as c:
        kept = c.execute('select count(*), sum("row" < 0) from feedback').fetchone()
    if timings.failed or kept != (LABELS, 0):
        raise RuntimeError(f"{timings.failed} requests failed; {kept} labels kept, and waiting")
    print(round(LABELS / timings.seconds), "labels a second", flush=True)
    return LABELS / timings.seconds


def bulk(home: Path) -> dict[str, Any]:
    """Seconds of `bento-selfheal label FILE` for a million rows of CSV whose predictions are in the
    log, and the peak memory of the command, the workers and the runner. On SQLite."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        url = f"sqlite:///{Path(folder) / 'selfheal.db'}"
        with (
            ours(home, workers=2, state_dir=folder, store_url=url) as port,
            closing(SqlStore(url)) as store,
        ):
            rows = json.loads(json_body(ASKED))["rows"]
            parts = list(_parts(keys_of(BULK), ASKED))
            asked = [json.dumps({"rows": rows, "keys": part}).encode() for part in parts]
            if send(port, [post("/predict", body) for body in asked], connections=2).failed:
                raise RuntimeError("predictions failed")
            wait_until(lambda: store.ends()[0] >= len(parts), 120)
            file = Path(folder) / "labels.csv"
            told = np.random.default_rng(0).permutation(keys_of(BULK))
            lines = (f"{key},{n % 2}" for n, key in enumerate(told))
            file.write_text("tx,fraud\n" + "\n".join(lines) + "\n")
            seconds, memory = _label(file, port)
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as c:
            kept = c.execute('select count(*), sum("row" < 0) from feedback').fetchone()
        if kept != (BULK, 0):
            raise RuntimeError(f"{kept} labels kept, and waiting")
    found = {"rows": BULK, "seconds": round(seconds, 1), "peak_megabytes": memory}
    print(found, flush=True)
    return found


def _label(file: Path, port: int) -> tuple[float, dict[str, int]]:
    """Seconds that the command takes, and the peak memory of each kind of process."""
    command = [
        str(BIN / "bento-selfheal"), "label", str(file), "--key", "tx", "--label", "fraud",
        "--json",
    ]  # fmt: skip
    env = {**os.environ, "BENTO_SELFHEAL_URL": f"http://127.0.0.1:{port}"}
    began = time.perf_counter()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as label:
        watched = {"command": [psutil.Process(label.pid)], **processes_of(port)}
        peak = dict.fromkeys(watched, 0)
        while label.poll() is None:
            for kind, processes in watched.items():
                with suppress(psutil.Error):
                    peak[kind] = max(peak[kind], *(p.memory_info().rss for p in processes))
            time.sleep(0.1)
        if label.returncode:
            raise RuntimeError(f"label ended with {label.returncode}")
    return time.perf_counter() - began, {kind: round(b / 1e6) for kind, b in peak.items()}


def processes_of(port: int) -> dict[str, list[psutil.Process]]:
    """The workers and the runner of the service on a port."""
    found: dict[str, list[psutil.Process]] = {"worker": [], "runner": []}
    server = next(c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port)
    top = psutil.Process(server)
    while (parent := top.parent()) is not None and "bentoml" in " ".join(parent.cmdline()):
        top = parent
    for process in [top, *top.children(recursive=True)]:
        line = process.cmdline()
        if "_bentoml_impl.worker.service" in line:
            found["runner" if "HealingRunner" in line else "worker"].append(process)
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Poll until a condition holds.

    Raises:
        RuntimeError: It does not within the time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s")
        time.sleep(0.1)


def _parts(keys: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _items(keys: list[str]) -> Iterator[bytes]:
    for part in _parts(keys, BATCH):
        items = [{"key": key, "label": n % 2} for n, key in enumerate(part)]
        yield post("/feedback", json.dumps({"items": items}).encode())


ROWS: dict[str, Callable[[Path], Any]] = {
    "requests": requests,
    "labels": labels,
    "bulk": bulk,
    "unreported": lambda _: positives_only(),
}


def main() -> None:
    with article_home() as home:
        record("labels", {name: partial(row, home) for name, row in ROWS.items()})


if __name__ == "__main__":
    main()
