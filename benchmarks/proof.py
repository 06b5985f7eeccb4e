"""What is proven of the served models: segments, causes of drift, many in one service, candidates.

    make bench-proof            writes benchmarks/results/proof.json (an hour)

Names of rows may follow the command; the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import canary_steps
import candidate_gate
import candidate_ramps
import causes
import many_models
import segments
from record import record

ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    **segments.ROWS,
    **causes.ROWS,
    **many_models.ROWS,
    **candidate_gate.ROWS,
    **candidate_ramps.ROWS,
    **canary_steps.ROWS,
}


def main() -> None:
    record("proof", ROWS)


if __name__ == "__main__":
    main()
