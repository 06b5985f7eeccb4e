"""Further signals: River's detectors in the pipeline, and the canary of agreement."""

from __future__ import annotations

import numpy as np
import pytest
from rigs import Live, Rig, drifting

from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.simulation.demo import DEMO_RULE
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows


@pytest.mark.parametrize("name", ["adwin", "page-hinkley"])
def test_detectors_see_drift(package: Package, name: str) -> None:
    """A detector of River named in the settings sees the drift, in the errors and in V14, and
    notes it as an event."""
    rig = Rig(package, detectors=(name,), detector_run_length=1000)
    Live(rig).send(*drifting())
    seen = {d for e in rig.done.events if e.kind == "change" for d in e.detail["detectors"]}
    assert seen == {f"{name} on errors", f"{name} on V14"}


@pytest.mark.slow
def test_detectors_stay_calm(package: Package) -> None:
    """Without drift none fires within far fewer rows than its run length."""
    rig = Rig(package, detectors=("adwin", "page-hinkley"), detector_run_length=3000)
    Live(rig).send(*drifting(clean=300, drifted=0))
    assert "change" not in rig.kinds()


def test_agreement_is_a_canary(package: Package) -> None:
    """Under drift rules and model part ways, and the state says so before any label has come."""
    rig = Rig(package, fidi_threshold=99.0, conflict_min=1000)
    ran = Live(rig, delay=10**9)
    ran.send(*drifting(clean=500, drifted=0))
    calm = rig.status()
    assert calm["state"] == "HEALTHY"
    assert calm["agreement"]["now"] == pytest.approx(calm["agreement"]["usual"], abs=0.04)
    ran.send(*drifting(clean=0, drifted=500))
    assert rig.status()["state"] == "DRIFTING"
    assert rig.status()["agreement"]["z"] > 4
    assert any("agree on" in e.detail["reason"] for e in rig.done.events if e.kind == "drifting")


def test_hybrid_training() -> None:
    """A rule that joins the loss makes model and rule agree more often from the start."""
    table = article_rows(1500, 0.0, np.random.default_rng(1))
    agree = []
    for weight in (0.0, 0.6):
        made = package_model(
            f"hybrid-{int(10 * weight)}", table.rows, table.labels, features=ARTICLE_FEATURES,
            sensitive=["V14"], rules=[DEMO_RULE], training=Training(epochs=5, rule_weight=weight),
        )  # fmt: skip
        answers = made.baseline(made.reference_rows)
        agree.append(made.rules().agreement(made.reference_rows, answers).mean())
    assert agree[1] > agree[0]
