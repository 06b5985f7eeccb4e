"""What is proven of the served models: segments not harmed, causes of drift, many in one service.

    make bench-proof            writes benchmarks/results/proof.json (an hour)

Names of rows may follow the command; the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import causes
import many_models
import segments
from record import record

ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    **segments.ROWS,
    **causes.ROWS,
    **many_models.ROWS,
}


def main() -> None:
    record("proof", ROWS)


if __name__ == "__main__":
    main()
