"""A receiver of webhooks that is away for ten minutes while its runner is killed: what it gets.

python benchmarks/webhooks.py [SECONDS]
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from receiver import SECRET, Receiver, is_genuine

from bento_selfheal.core.records import Event
from bento_selfheal.store import SqlStore

KINDS = ("promote", "rollback", "retrain_needed")
AWAY = 600.0
KILLS = 3
LEASE = 2.0
CATCH_UP = 180.0
RUNNER = """
import json, sys, time
from bento_selfheal.config.settings import Settings
from bento_selfheal.runner.lease import Lease
from bento_selfheal.store import SqlStore
from bento_selfheal.webhooks.webhooks import Webhooks
store = SqlStore(sys.argv[1])
lease = Lease(store, float(sys.argv[3]))
while not lease.acquire():
    time.sleep(0.1)
hooks = Webhooks(store, Settings(webhooks=json.loads(sys.argv[2])), lambda: lease.token)
hooks.serve("m:1")
hooks.start()
print("leads", flush=True)
while True:
    time.sleep(lease._seconds / 3)
    lease.renew()
"""


def away(seconds: float = AWAY) -> dict[str, Any]:
    """Events come once a second, by turns of three kinds, with the package's own back-off; nothing
    listens for ``seconds``, and what sends is killed (-9) three times meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/selfheal.db"
        store = SqlStore(url)
        store.create()
        store.begin_status({})
        receiver = Receiver()
        with receiver.listening():
            runner = _start(url, receiver)
        sent, killed, begin = [0], 0, time.monotonic()
        while (past := time.monotonic() - begin) < seconds:
            store.add_event(Event(KINDS[sent[0] % 3], {"reason": f"{sent[0]}"}, time.time()))
            sent[0] += 1
            if past > seconds * (killed + 1) / (KILLS + 1) and killed < KILLS:
                _kill(runner)
                runner = _start(url, receiver)
                killed += 1
            time.sleep(1.0)
        with receiver.listening():
            back = time.monotonic()
            _until(lambda: len({one.place for one in receiver.taken}) >= sent[0])
            caught_up = time.monotonic() - back
        _kill(runner)
        places = [receiver.places(kind) for kind in KINDS]
        verdict = store.verify_audit()
        store.close()
    got = {place for each in places for place in each}
    return {
        "events": sent[0], "away_seconds": seconds, "kills": killed, "lost": sent[0] - len(got),
        "twice": len(receiver.taken) - len(got),
        "out_of_order": sum(b < a for each in places for a, b in pairwise(each)),
        "not_genuine": sum(not is_genuine(one) for one in receiver.taken),
        "seconds_until_all_were_told": round(caught_up, 1),
        "audit_entries": verdict.entries, "audit_whole": not verdict.broken,
    }  # fmt: skip


def _start(url: str, receiver: Receiver) -> subprocess.Popen[str]:
    hook = {"name": "desk", "url": receiver.url, "kinds": KINDS, "secret": SECRET}
    arguments = [sys.executable, "-c", RUNNER, url, json.dumps([hook]), str(LEASE)]
    runner = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert runner.stdout is not None
    assert runner.stdout.readline() == "leads\n"
    return runner


def _kill(runner: subprocess.Popen[str]) -> None:
    runner.send_signal(signal.SIGKILL)
    runner.wait()


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + CATCH_UP
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)


ROWS: dict[str, Callable[[], dict[str, Any]]] = {"webhook's receiver away for 10 minutes": away}

if __name__ == "__main__":
    print(json.dumps(away(float(sys.argv[1]) if len(sys.argv) > 1 else AWAY), indent=2))
