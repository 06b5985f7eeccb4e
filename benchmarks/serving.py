"""What a request costs, here and elsewhere, and what heals, size and replicas do to it.

    make bench-serving            every row, some twenty minutes
    python benchmarks/serving.py NAME …   single rows

Servers are started in turn on the same cores, A B A B, and asked by wrk or by the light client in
`wire.py`, each in a process of its own; medians over the rounds. Writes
benchmarks/results/serving.json and the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
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
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil
from readme import update

from bento_selfheal.modelstore import find_model, use_home
from bento_selfheal.served import ServedService, free_port
from bento_selfheal.show import package_demo

RESULTS = Path(__file__).parent / "results" / "serving.json"
ROOT = Path(__file__).parent.parent
RIVALS = Path(__file__).parent / "rivals"
BIN = Path(sys.executable).parent
ROUNDS = 5
SECONDS = 3
CONNECTIONS = 8
ROW = [0.1, -0.4, 1.2, 0.0, 0.3, -1.1, 0.8, -2.7, 0.2, 0.5]
NPY = "application/x-npy"
RIVAL_ENV = {"OMP_NUM_THREADS": "1"}


@contextmanager
def ours(home: Path, **settings: Any) -> Iterator[int]:
    """Our service with a fresh state; its port."""
    with tempfile.TemporaryDirectory(dir=home) as state:
        env = {"SELFHEAL_MODEL": os.environ["BENCH_TAG"], "SELFHEAL_STATE_DIR": state, **RIVAL_ENV}
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
def process_rival(home: Path, command: list[str], ready: str, port: int) -> Iterator[int]:
    """A rival with a command of its own; its port."""
    env = {**os.environ, **RIVAL_ENV}
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


def wrk(port: int, body: bytes, **headers: str) -> float:
    """Requests a second, every one of them answered with 200."""
    headers = {"Content-Type": "application/json", **{k.title(): v for k, v in headers.items()}}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        script = Path(folder) / "post.lua"
        lines = [f'wrk.headers["{k.replace("_", "-")}"] = "{v}"' for k, v in headers.items()]
        script.write_text(
            f'local f = io.open("{folder}/body", "rb")\n'
            'wrk.method = "POST"\nwrk.body = f:read("*a")\nf:close()\n' + "\n".join(lines)
        )
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "-s", str(script)]
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


ROWS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "throughput": throughput,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="rows to measure; all without")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        use_home(home)
        tag = os.environ["BENCH_TAG"] = package_demo(42).tag
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
