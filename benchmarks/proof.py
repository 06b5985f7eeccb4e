"""What is proven of the served models: segments that no heal harms, many models in one service.

    make bench-proof            writes benchmarks/results/proof.json (an hour)

Names of rows may follow the command; the others stay as they are.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import many_models
import segments
from readme import update

RESULTS = Path(__file__).parent / "results" / "proof.json"
ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    **segments.ROWS,
    **many_models.ROWS,
}


def main() -> None:
    wanted = sys.argv[1:] or list(ROWS)
    if unknown := [name for name in wanted if name not in ROWS]:
        sys.exit(f"no row {unknown[0]!r}; the rows are {', '.join(map(repr, ROWS))}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {
        "command": "make bench-proof", "machine": f"{platform.machine()}, {os.cpu_count()} cores"
    }  # fmt: skip
    for name in wanted:
        results[name] = ROWS[name]()
        print(name, results[name], flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("proof")


if __name__ == "__main__":
    main()
