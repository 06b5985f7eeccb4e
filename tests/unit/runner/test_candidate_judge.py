"""What the runner makes of candidates that are overtaken by what an operator does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import Deployed

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.candidates.candidate import Candidate
from bento_selfheal.packaging.package import Package


@pytest.fixture
def service(package: Package, tmp_path: Path) -> Iterator[Deployed]:
    service = Deployed(Settings(model=package.tag, state_dir=tmp_path / "state", lease_seconds=60))
    yield service
    service.close()


def test_deployed_by_hand(service: Deployed, package: Package) -> None:
    """A candidate whose package was deployed meanwhile is compared with itself no longer, and
    answers nothing; others stay."""
    service.store.add_candidate(Candidate(package.tag, step=1))
    service.store.add_candidate(Candidate("other:1"))
    service.runner().step()
    gone, other = service.store.candidates()
    assert (gone.state, gone.reason) == (
        "withdrawn", "it serves already: it was deployed by hand"
    )  # fmt: skip
    assert (gone.share, other.state) == (0.0, "running")
