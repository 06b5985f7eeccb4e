"""When another adapter serves, the trial that ran counts, and a line proves itself again."""

from __future__ import annotations

import math

from rigs import Live, Rig, drifting, live, taken_back

from bento_selfheal.core.records import Promotion, PromotionKind
from bento_selfheal.packaging.package import Package


def test_no_trial_is_free(package: Package) -> None:
    """Each time that an operator serves another adapter in the middle of a trial, the next one
    needs more evidence, as after a trial that ended; while nothing is on trial it costs nothing."""
    ran = Live(Rig(package, gate_alpha=1e-30))  # a trial that no labels decide
    needed = []
    for seq in (50, 51, 52):
        ran.send(*drifting(drifted=300, seed=seq))
        gate = ran.rig.pipeline.parts.line.gate
        assert gate.process.count
        for _ in range(2):
            ran.rig.pipeline.adopt(
                Promotion(PromotionKind.ROLLBACK, 1, "m:1", "ab", "asked", 0.0, "operator", seq=seq)
            )
        needed.append(gate.evidence()["log_e_needed"] + math.log(1e-30))
    assert [round(math.exp(n)) for n in needed] == [6, 12, 20]


def test_proof_after_a_rollback(package: Package) -> None:
    """A line that was taken back serves again only on the evidence of a new trial."""
    ran = live(package)
    pipeline = ran.rig.pipeline
    assert pipeline.parts.line.gate.proven
    before = len(ran.rig.moves())
    taken_back(ran)
    back = len(ran.rig.moves())
    assert [p.kind for p in ran.rig.moves()[before:]] == [PromotionKind.ROLLBACK]
    del pipeline.healer.heal, pipeline.healer.try_challenger  # type: ignore[attr-defined]
    assert not pipeline.parts.line.gate.proven
    ran.send(*drifting(seed=6, clean=0, drifted=800))
    again = ran.rig.moves()[back]
    assert again.kind is PromotionKind.PROMOTE
    assert again.evidence["log_e"] >= again.evidence["log_e_needed"] > math.log(6 / 0.05) - 1e-9
