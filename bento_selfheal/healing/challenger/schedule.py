"""How long, how often and towards what a challenger trains."""

from __future__ import annotations

LEAST_OWN = 0.05
"""Share of labels in the targets under which there are no more steps, and no less averaging."""
MOST_STEPS = 100
"""Steps that anchor and pace together may ask of a round: it is to end before the next labels."""
