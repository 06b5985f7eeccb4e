"""Predictions under load, with heals forced back to back and without, in turns.

    make bench-load

Two predict workers and the runner serve; this process sends single rows on a fixed schedule
and measures each answer from the moment at which it was due, so that a stall counts for every
request that it delays. Writes benchmarks/results/load.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from readme import update

from bento_selfheal.modelstore import use_home
from bento_selfheal.served import ServedService
from bento_selfheal.show import demo_stream, package_demo
from bento_selfheal.store import SqlStore

RESULTS = Path(__file__).parent / "results" / "load.json"
ROOT = Path(__file__).parent.parent
CONNECTIONS = 8


@dataclass
class Load:
    """Answer times in milliseconds, from when each request was due."""

    times: list[float] = field(default_factory=list)
    failed: int = 0
    heals: int = 0
    promotions: int = 0

    def distribution(self) -> dict[str, float]:
        p50, p90, p99, p999 = np.percentile(self.times, [50, 90, 99, 99.9])
        return {
            "requests": len(self.times),
            "failed": self.failed,
            "heals": self.heals,
            "promotions": self.promotions,
            "p50_ms": round(float(p50), 2),
            "p90_ms": round(float(p90), 2),
            "p99_ms": round(float(p99), 2),
            "p99.9_ms": round(float(p999), 2),
            "max_ms": round(max(self.times), 2),
        }


def send(port: int, body: bytes, rate: float, seconds: float, load: Load) -> None:
    """Send on a fixed schedule over several connections."""
    total = int(rate * seconds)
    lock = threading.Lock()
    # Every connection is open before the schedule starts: its set-up is no answer time.
    ready = threading.Barrier(CONNECTIONS)
    start = 0.0

    def ask(link: http.client.HTTPConnection) -> bool:
        try:
            link.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer = link.getresponse()
            answer.read()
            return answer.status == 200
        except (OSError, http.client.HTTPException):
            link.close()
            return False

    def connection(first: int) -> None:
        nonlocal start
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as link:
            ask(link)
            if ready.wait() == 0:
                start = time.perf_counter() + 0.05
            ready.wait()
            for i in range(first, total, CONNECTIONS):
                due = start + i / rate
                time.sleep(max(due - time.perf_counter(), 0))
                good = ask(link)
                with lock:
                    load.times.append((time.perf_counter() - due) * 1000)
                    load.failed += not good

    threads = [threading.Thread(target=connection, args=(i,)) for i in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def heal_on_and_on(store: SqlStore, stop: threading.Event) -> None:
    """Ask for the next heal as soon as the last one is done; by the store, not the workers."""
    while not stop.is_set():
        done = store.status()["heals"]
        store.add_command("heal")
        while not stop.is_set() and store.status()["heals"] == done:
            stop.wait(0.02)


def give_labels(url: str) -> None:
    """Labelled rows for the forced heals to train on."""
    stream = demo_stream(20, 0, 2.2, 7)
    with httpx.Client(base_url=url, timeout=30) as client:
        for rows, labels in stream:
            ids = client.post("/predict", json={"rows": rows.tolist()}).json()["prediction_ids"]
            items = [
                {"prediction_id": i, "label": y} for i, y in zip(ids, labels.tolist(), strict=True)
            ]
            client.post("/feedback", json={"items": items}).raise_for_status()
        while client.get("/status").json()["labels"]["joined"] < len(stream.rows):
            time.sleep(0.05)


def segment(
    store: SqlStore, port: int, rate: float, seconds: float, load: Load, *, heal: bool
) -> None:
    """One stretch of load, with heals or without."""
    body = json.dumps({"rows": [[0.1] * 10]}).encode()
    before = store.status()
    stop = threading.Event()
    healer = threading.Thread(target=heal_on_and_on, args=(store, stop))
    if heal:
        healer.start()
    try:
        send(port, body, rate, seconds, load)
    finally:
        stop.set()
        if heal:
            healer.join()
    after = store.status()
    load.heals += after["heals"] - before["heals"]
    load.promotions += after["promotions"] - before["promotions"]


def measure(home: Path, rate: float, seconds: float, rounds: int) -> dict[str, Load]:
    """Alternate stretches with and without heals on one server, whose BENTOML_HOME is given."""
    loads = {"without": Load(), "with_heals": Load()}
    env = {
        "SELFHEAL_MODEL": package_demo(42).tag,
        "SELFHEAL_STATE_DIR": str(home / "load"),
        "SELFHEAL_GATE": "always",
        # Signals must not heal by themselves while a stretch without heals is measured.
        "SELFHEAL_FIDI_THRESHOLD": "1000",
        "SELFHEAL_CONFLICT_MIN": "1000",
        "SELFHEAL_ERROR_DROP": "1",
    }
    log = home / "load.log"
    with ServedService("service:SelfHealing", home=home, log=log, cwd=ROOT, env=env) as server:
        give_labels(server.url)
        store = SqlStore(f"sqlite:///{home / 'load' / 'selfheal.db'}")
        segment(store, server.port, rate, 3, Load(), heal=True)
        for _ in range(rounds):
            for name, load in loads.items():
                heal = name == "with_heals"
                segment(store, server.port, rate, seconds / rounds, load, heal=heal)
        store.close()
    return loads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=150, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60, help="of each kind")
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        use_home(Path(folder))
        loads = measure(Path(folder), args.rate, args.seconds, args.rounds)
    table = {name: load.distribution() for name, load in loads.items()}
    ratios = {
        key: round(table["with_heals"][key] / table["without"][key], 3)
        for key in ("p50_ms", "p99_ms", "p99.9_ms", "max_ms")
    }
    result = {
        "command": "make bench-load",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "settings": {**vars(args), "workers": 2, "rows_per_request": 1, "seed": 42},
        **table,
        "ratio_with_over_without": ratios,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    update("load")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
