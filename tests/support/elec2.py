"""The Elec2 stream, which is too large for the repository: where it lies, and who needs it."""

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
