"""Streams and cases that are too large for the repository: where they lie, and who needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT

ELEC2 = Path(os.environ.get("BENTO_SELFHEAL_DATA", ROOT.parent / "shared" / "data")) / "elec.csv"

needs_elec2 = pytest.mark.skipif(
    not ELEC2.is_file(),
    reason=f"{ELEC2} is missing: examples/elec2 says where to download it; "
    "BENTO_SELFHEAL_DATA names its folder",
)

CASES = ROOT.parent / "shared" / "cases"

needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is missing")
