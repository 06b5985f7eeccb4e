"""What was served on streams, over HTTP with two workers, against the frozen model.

    make bench-streams

The demo's stream at two strengths of drift (labels one batch late) and, where the file is there,
Elec2 (labels 100 rows late). Every figure is from answers given before their label was sent. Writes
benchmarks/results/streams.json.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from readme import update
from rich.console import Console

from bento_selfheal.cli.live import Demo, run_demo
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.demo import demo_stream, package_demo
from bento_selfheal.simulation.driver import Summary
from bento_selfheal.simulation.streams import read_table
from bento_selfheal.simulation.table import package_table, table_stream

RESULTS = Path(__file__).parent / "results" / "streams.json"
ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("BENTO_SELFHEAL_DATA", ROOT.parent / "shared" / "data"))
SEED = 42
SIDES = ("frozen", "champion")


def figures(summary: Summary) -> dict[str, Any]:
    """What a stream came to."""
    lift, found = summary.lift, summary.figures()
    frozen, served = ({k: v and round(v, 4) for k, v in found[name].items()} for name in SIDES)
    return {
        "batches": len(summary.reports),
        "frozen": frozen,
        "served": served,
        "served_accuracy_last_10_batches": round(summary.tail(10).champion.accuracy, 4),
        "majority": round(summary.majority, 4),
        "lift": [round(lift.mean, 4), round(lift.low, 4), round(lift.high, 4)],
        "heals": summary.status["heals"],
        "promotions": summary.status["promotions"],
        "rollbacks": summary.status["rollbacks"],
    }


def demo_figures(home: Path, console: Console, drift: float) -> dict[str, Any]:
    """The demo's stream at one strength of drift."""
    demo = Demo(package_demo(SEED), demo_stream(40, 5, drift, SEED), home)
    return figures(run_demo(demo, console, "service:SelfHealing", ROOT))


def elec_figures(home: Path, console: Console) -> dict[str, Any]:
    """Elec2: trained on the first tenth, the rest streamed."""
    train, rest = read_table(DATA / "elec.csv", "class").split(0.1)
    package = package_table("elec", train, SEED, None)
    demo = Demo(package, table_stream(rest, package, 100), home, every=50)
    return figures(run_demo(demo, console, "service:SelfHealing", ROOT))


ROWS: dict[str, Callable[[Path, Console], dict[str, Any]]] = {
    "demo, drift 2.2": lambda home, console: demo_figures(home, console, 2.2),
    "demo, drift 3.5": lambda home, console: demo_figures(home, console, 3.5),
    "Elec2, labels 100 rows late": elec_figures,
}


def main() -> None:
    console = Console(stderr=True)
    wanted = sys.argv[1:] or list(ROWS)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-streams", "seed": SEED, "workers": 2}
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            if "Elec2" in name and not (DATA / "elec.csv").exists():
                console.print(f"skipped {name}: no {DATA / 'elec.csv'}")
                continue
            home = Path(folder) / name.replace(" ", "-")
            use_home(home)
            results[name] = ROWS[name](home, console)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("streams")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
