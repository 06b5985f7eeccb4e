"""What a request costs, here and elsewhere, and what heals, size and replicas do to it.

    make bench-serving            every row, some twenty minutes
    python benchmarks/serving.py NAME …   single rows

Servers are started in turn on the same cores, A B A B, and asked by wrk or by the light client in
`wire.py`, each in a process of its own; medians over the rounds. Writes
benchmarks/results/serving.json and the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil
from cluster_rows import failover, running
from durable import feedback_rate, log_costs, size_matters
from heavy import batched_rates, call_ms, package_deep, probes_ms
from readme import update
from under_heals import SETTINGS, Load, in_turns, ours_in_turns
from wire import post

from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.model_store import find_model, use_home
from bento_selfheal.simulation.demo import DEMO_RULE
from bento_selfheal.simulation.server import ServedService, free_port
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.store import SqlStore

RESULTS = Path(__file__).parent / "results" / "serving.json"
ROOT = Path(__file__).parent.parent
RIVALS = Path(__file__).parent / "rivals"
BIN = Path(sys.executable).parent
ROUNDS = 5
SECONDS = 3
CONNECTIONS = 8
NPY = "application/x-npy"
PASSES = 60
"""Through the layers of a heavy model, which take some 5 ms each."""
IMPORTED = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
RIVAL_ENV = {"OMP_NUM_THREADS": "1"}


def package_article(seed: int) -> str:
    """The article's network, trained on its clean data and packaged; its tag."""
    table = article_rows(5000, 0.0, np.random.default_rng(seed))
    return package_model(
        "article", table.rows, table.labels, features=ARTICLE_FEATURES, sensitive=["V14"],
        rules=[DEMO_RULE], builder="bento_selfheal.model:SelfHealingMLP", seed=seed,
    ).tag  # fmt: skip


@contextmanager
def ours(home: Path, **settings: Any) -> Iterator[int]:
    """Our service with a fresh state; its port."""
    with tempfile.TemporaryDirectory(dir=home) as state:
        env = {"SELFHEAL_MODEL": os.environ["BENCH_TAG"], "SELFHEAL_STATE_DIR": state, **RIVAL_ENV}
        env["PYTHONPATH"] = IMPORTED
        env |= {f"SELFHEAL_{k.upper()}": str(v) for k, v in settings.items()}
        log = home / "ours.log"
        with ServedService("service:SelfHealing", home=home, log=log, cwd=ROOT, env=env) as s:
            yield s.port


@contextmanager
def bento_rival(home: Path, target: str, **env: str) -> Iterator[int]:
    """A rival that BentoML serves; its port."""
    log = home / "rival.log"
    with ServedService(target, home=home, log=log, cwd=RIVALS, env={**RIVAL_ENV, **env}) as server:
        yield server.port


@contextmanager
def process_rival(
    home: Path, command: list[str], ready: str, port: int, **more: str
) -> Iterator[int]:
    """A rival with a command of its own; its port."""
    env = {**os.environ, **RIVAL_ENV, **more}
    with (home / "rival.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=RIVALS, stdout=log, stderr=log, env=env, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{command} is not ready; see {home / 'rival.log'}")
            time.sleep(0.1)
        yield port
    finally:
        started = [process, *psutil.Process(process.pid).children(recursive=True)]
        for one in started:
            one.kill()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def contenders(home: Path) -> dict[str, Callable[[], Any]]:
    """Everything that is asked the same, by name."""
    python = str(BIN / "python")

    def fastapi() -> Any:
        port = free_port()
        command = [str(BIN / "uvicorn"), "fastapi_app:app", "--port", str(port)]
        return process_rival(home, [*command, "--log-level", "warning"], "/docs", port)

    def litserve() -> Any:
        port = free_port()
        return process_rival(home, [python, "litserve_app.py", str(port)], "/health", port)

    return {
        "bento_selfheal": lambda: ours(home, workers=1),
        "plain BentoML": lambda: bento_rival(home, "plain:Plain"),
        "LitServe": litserve,
        "FastAPI + uvicorn[standard]": fastapi,
    }


# -- requests a second ----------------------------------------------------------------------------


def json_body(rows: int) -> bytes:
    """Rows of the demo as a client sends them."""
    draw = np.random.default_rng(rows)
    return json.dumps({"rows": draw.normal(size=(rows, 10)).astype(np.float32).tolist()}).encode()


def npy_body(rows: int) -> bytes:
    draw, file = np.random.default_rng(rows), io.BytesIO()
    np.save(file, draw.normal(size=(rows, 10)).astype(np.float32))
    return file.getvalue()


def wrk(
    port: int, body: bytes, connections: int = CONNECTIONS, more: str = "", **headers: str
) -> float:
    """Requests a second, every one of them answered with 200; `more` Lua may make each anew."""
    headers = {"Content-Type": "application/json", **{k.title(): v for k, v in headers.items()}}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        script = Path(folder) / "post.lua"
        lines = [f'wrk.headers["{k.replace("_", "-")}"] = "{v}"' for k, v in headers.items()]
        script.write_text(
            f'local f = io.open("{folder}/body", "rb")\n'
            'wrk.method = "POST"\nwrk.body = f:read("*a")\nf:close()\n' + "\n".join([*lines, more])
        )
        command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "-s", str(script)]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}/predict"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    if "Non-2xx" in done.stdout:
        raise RuntimeError(done.stdout)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found is not None
    return float(found.group(1))


def throughput(home: Path) -> dict[str, Any]:
    """Requests a second with one worker, here and elsewhere."""
    bodies = {"1 row": json_body(1), "100 rows": json_body(100), "1000 rows": json_body(1000)}
    found: dict[str, dict[str, list[float]]] = {}
    memory: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, start in contenders(home).items():
            with start() as port:
                wrk(port, bodies["1 row"])  # warm
                per = found.setdefault(name, {})
                for rows, body in bodies.items():
                    per.setdefault(rows, []).append(wrk(port, body))
                if name == "bento_selfheal":
                    npy = wrk(port, npy_body(1000), content_type=NPY, accept=NPY)
                    per.setdefault("1000 rows, .npy", []).append(npy)
                if "bento" in name.lower():
                    memory.setdefault(name, []).append(worker_memory(port))
    medians = {n: {k: round(median(v), 1) for k, v in per.items()} for n, per in found.items()}
    own, plain = medians["bento_selfheal"], medians["plain BentoML"]
    sizes = {n: round(median(v), 1) for n, v in memory.items()}
    return {
        "requests_a_second": medians,
        "rounds": found,
        "over_plain_1_row": round(own["1 row"] / plain["1 row"], 2),
        "over_plain_100_rows": round(own["100 rows"] / plain["100 rows"], 2),
        "over_litserve": {rows: round(own[rows] / medians["LitServe"][rows], 2) for rows in bodies},
        "over_fastapi": {
            rows: round(own[rows] / medians["FastAPI + uvicorn[standard]"][rows], 2)
            for rows in bodies
        },
        "npy_over_plain_json": round(own["1000 rows, .npy"] / plain["1000 rows"], 2),
        "npy_over_own_json": round(own["1000 rows, .npy"] / own["1000 rows"], 2),
        "worker_megabytes": sizes,
        "memory_over_plain": round(sizes["bento_selfheal"] / sizes["plain BentoML"], 3),
    }


def steps(home: Path) -> dict[str, Any]:
    """Requests a second of our own service, with parts of it left out or put back."""
    found: dict[str, dict[str, list[float]]] = {}
    variants: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        # A field without a value sends a request through BentoML's own stack.
        "BentoML's stack": ({}, {"facts": None}),
        "lane, with access log": ({"access_log": True}, {}),
        "lane": ({}, {}),
        "lane, 1 % logged": ({"log_sample": 0.01}, {}),
    }
    for _ in range(2):
        for name, (settings, more) in variants.items():
            with ours(home, workers=1, **settings) as port:
                wrk(port, json_body(1))
                for rows in (1, 100):
                    body = json.dumps({**json.loads(json_body(rows)), **more}).encode()
                    per = found.setdefault(name, {})
                    per.setdefault(f"{rows} rows", []).append(wrk(port, body))
    return {n: {k: round(median(v), 1) for k, v in per.items()} for n, per in found.items()}


def worker_memory(port: int) -> float:
    """Resident megabytes of the process that answers on a port, after its load."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        works = "_bentoml_impl.worker.service" in line and "HealingRunner" not in line
        if works and _listens(process, port):
            return float(process.memory_info().rss / 1e6)
    raise RuntimeError(f"no worker on port {port}")


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        return any(c.laddr and c.laddr.port == port for c in process.net_connections())
    except psutil.Error:
        return False


# -- heals, labels, size, replicas ----------------------------------------------------------------


def p99_under_heals(home: Path) -> dict[str, Any]:
    """Two workers at half of their capacity, with heals back to back and without; ours, then the
    article's design."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=home) as folder:
        state = Path(folder)
        with ours(home, workers=2, state_dir=state, **SETTINGS) as port:
            rate = wrk(port, json_body(1), connections=32) / 2
            loads = ours_in_turns(port, state, rate=rate, seconds=60, rounds=6)
        found["ours"] = _heals_cost(loads, rate)
        switch = state / "switch"

        @contextmanager
        def switched(_: Load) -> Iterator[None]:
            switch.touch()
            try:
                yield
            finally:
                switch.unlink()

        with bento_rival(home, "article:Article", ARTICLE_SWITCH=str(switch)) as port:
            rate = wrk(port, json_body(1), connections=32) / 2
            loads = in_turns(port, switched, rate=rate, seconds=60, rounds=6)
        found["article"] = _heals_cost(loads, rate)
    return found


def _heals_cost(loads: dict[str, Load], rate: float) -> dict[str, Any]:
    without, healed = loads["without"], loads["with_heals"]
    return {
        "requests_a_second": round(rate),
        "heals": healed.heals,
        "promotions": healed.promotions,
        "failed": without.failed + healed.failed,
        "p99_ms_without": without.p99s,
        "p99_ms_with_heals": healed.p99s,
        "p99_ratio": round(median(healed.p99s) / median(without.p99s), 3),
        "p50_ms": [round(float(np.median(load.times)), 2) for load in (without, healed)],
        "max_ms": [round(max(load.times), 1) for load in (without, healed)],
    }


def label_to_serving(home: Path) -> dict[str, Any]:
    """Seconds from labels acknowledged to their adapter serving in both workers: the article's
    recipe, five steps on 100 rows, every heal promoted."""
    seconds, draw = [], np.random.default_rng(3)
    with tempfile.TemporaryDirectory(dir=home) as state, ExitStack() as stack:
        # A rollback in between would be another promotion than the one that is timed.
        never = {"rollback_f1_drop": 1.0, "rollback_acc_drop": 1.0}
        (Path(state) / "threshold_config.json").write_text(json.dumps(never))
        settings = {"recipe": "article", "gate": "always", "conflict_min": 1, "state_dir": state}
        port = stack.enter_context(ours(home, workers=2, **settings))
        url = f"http://127.0.0.1:{port}"
        client = stack.enter_context(httpx.Client(base_url=url, timeout=30))
        for _ in range(40):
            table = article_rows(100, 2.2, draw)
            asked = client.post("/predict", json={"rows": table.rows.tolist()}).json()
            items = [
                {"prediction_id": i, "label": int(y)}
                for i, y in zip(asked["prediction_ids"], table.labels, strict=True)
            ]
            client.post("/feedback", json={"items": items}).raise_for_status()
            acknowledged = time.time()
            seconds.append(_all_serve_after(url, asked["model_version"]) - acknowledged)
    return {
        "trials": len(seconds),
        "p50_s": round(float(np.median(seconds)), 3),
        "p95_s": round(float(np.percentile(seconds, 95)), 3),
        "worst_s": round(max(seconds), 3),
    }


def _all_serve_after(url: str, version: int) -> float:
    """When the second of two workers began to serve something newer, seconds since the epoch."""
    since: dict[int, float] = {}
    deadline = time.monotonic() + 30
    while len(since) < 2:
        # A fresh connection goes to either worker.
        worker = httpx.get(f"{url}/status", timeout=30).json()["worker"]
        if worker["serving_version"] > version:
            since.setdefault(worker["pid"], worker["serving_since"])
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing newer than {version} serves on {url}")
    return max(since.values())


def feedback(home: Path) -> dict[str, Any]:
    """Labels a second acknowledged durable, in batches of 100, on both kinds of store."""
    found: dict[str, list[float]] = {"SQLite": [], "PostgreSQL": []}
    with (
        tempfile.TemporaryDirectory(dir=home) as folder,
        running(home / "postgres", durable=True) as server,
    ):
        for n in range(ROUNDS):
            state = Path(folder) / str(n)
            for name, url in (
                ("SQLite", f"sqlite:///{state / 'selfheal.db'}"), ("PostgreSQL", server.database())
            ):  # fmt: skip
                service = ours(home, workers=2, state_dir=state, store_url=url)
                with service as port, closing(SqlStore(url)) as store:
                    feedback_rate(port, store, 5_000)
                    found[name].append(feedback_rate(port, store, 100_000))
    return {
        name: {"labels_a_second": round(median(rates)), "rounds": [round(r) for r in rates]}
        for name, rates in found.items()
    }


def size(home: Path) -> dict[str, Any]:
    """Ten million predictions and a million labels in the store, over an empty one."""
    request = post("/predict", json_body(1))
    return size_matters(
        lambda state: ours(home, workers=1, state_dir=state),
        os.environ["BENCH_TAG"], request, predictions=10_000_000, labels=1_000_000,
    )  # fmt: skip


def disk(home: Path) -> dict[str, Any]:
    """What the log takes and holds, on both kinds of store, in large requests and in small ones."""
    found: dict[str, Any] = {}
    with running(home / "postgres-log", durable=True) as server:
        for rows in (100, 1):
            with tempfile.TemporaryDirectory(dir=home) as folder:
                tag, state = os.environ["BENCH_TAG"], Path(folder)
                lite = f"sqlite:///{state / 'selfheal.db'}"
                found[f"SQLite, {rows} rows"] = log_costs(tag, lite, state, rows)
                found[f"PostgreSQL, {rows} rows"] = log_costs(tag, server.database(), state, rows)
    return {**found, "bytes_a_prediction": found["SQLite, 100 rows"]["bytes_a_row"]}


def replicas(home: Path) -> dict[str, Any]:
    """Three replicas on one PostgreSQL that lose their leaders."""
    with tempfile.TemporaryDirectory() as folder:
        return failover(home, os.environ["BENCH_TAG"], Path(folder))


# -- heavy models ---------------------------------------------------------------------------------


def heavy_batched(home: Path) -> dict[str, Any]:
    """64 clients with a row each on a backbone of some 5 ms: requests a second and p99 with one
    worker and one thread, here and where requests are batched elsewhere."""
    tag, python = package_deep(passes=1).tag, str(BIN / "python")
    env = {"PYTHONPATH": IMPORTED, "RIVAL_PASSES": "1", "RIVAL_MODEL": str(find_model(tag).path)}

    def litserve(timeout: float) -> Any:
        port = free_port()
        command = [python, "litserve_batched.py", str(port), str(timeout)]
        return process_rival(home, command, "/health", port, **env)

    starts: dict[str, Callable[[], Any]] = {
        "bento_selfheal": lambda: ours(home, model=tag, workers=1),
        "BentoML, batchable": lambda: bento_rival(home, "batched:Batched", **env),
        **{
            f"LitServe, batches of {1000 * t:.0f} ms": functools.partial(litserve, t)
            for t in (0.0, 0.005, 0.02)
        },
    }  # fmt: skip
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in starts}
    for _ in range(ROUNDS):
        for name, start in starts.items():
            found[name].append(batched_rates(start, json_body(1), SECONDS))
    rates = {name: round(median(r for r, _ in rounds), 1) for name, rounds in found.items()}
    p99s = {name: round(median(p for _, p in rounds), 1) for name, rounds in found.items()}
    own, lit = "bento_selfheal", [name for name in found if name.startswith("LitServe")]
    return {
        "call_ms": {rows: call_ms(1, rows) for rows in (1, 64)},
        "requests_a_second": rates,
        "p99_ms": p99s,
        "rounds": found,
        "over_bentoml": round(rates[own] / rates["BentoML, batchable"], 2),
        "over_litserve": round(rates[own] / max(rates[name] for name in lit), 2),
        "p99_over_better": round(p99s[own] / min(p for n, p in p99s.items() if n != own), 2),
    }


def probes_under_heavy(home: Path) -> dict[str, Any]:
    """`/livez` and `/feedback` while 64 clients ask one worker whose backbone takes some 300 ms."""
    tag = package_deep(passes=PASSES).tag
    with ours(home, model=tag, workers=1) as port:
        return {"call_ms": call_ms(PASSES, 1), **probes_ms(port, json_body(1))}


ROWS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "throughput": throughput,
    "steps": steps,
    "p99_under_heals": p99_under_heals,
    "label_to_serving": label_to_serving,
    "feedback": feedback,
    "size": size,
    "disk": disk,
    "replicas": replicas,
    "heavy_batched": heavy_batched,
    "probes_under_heavy": probes_under_heavy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="rows to measure; all without")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        use_home(home)
        tag = os.environ["BENCH_TAG"] = package_article(42)
        os.environ["RIVAL_MODEL"] = str(find_model(tag).path)
        for name in args.rows or ROWS:
            started = time.perf_counter()
            results[name] = {**ROWS[name](home), "seconds": round(time.perf_counter() - started)}
            print(name, json.dumps(results[name], indent=2), flush=True)
            results |= {
                "command": "make bench-serving",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
                f"Python {platform.python_version()}",
            }
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
            update("serving")


if __name__ == "__main__":
    main()
