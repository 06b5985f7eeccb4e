"""How drift is seen and how a heal trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bento_selfheal.config.validation import Count, Positive, Share


class HealParameters(BaseModel):
    """How drift is seen and how a heal trains. The names are the article's where it has one."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    batch_size: Count = 100
    """Rows of the prediction log that make one batch for the signals and the metrics."""
    fidi_threshold: Positive = 1.0
    """z of a sensitive feature, in standard deviations of samples, above which it has drifted."""
    fidi_window: Count = 10
    """How many batch means FIDI averages."""
    conflict_thr: Share = 0.30
    """Probability of a rule's class below which a row that the rule flags is a conflict."""
    conflict_min: Count = 5
    """Conflicts in one batch that ask for a heal."""
    error_drop: Share = 0.05
    """Accuracy on labels, as a rolling mean, this far below the reference set's asks for a heal."""
    agreement_z: Positive = 4.0
    """Distance of the share of rows on which rules and model agree from the usual one, in
    standard errors, that counts as drift."""
    recipe: Literal["replay", "article"] = "replay"
    """How a heal trains: `replay` on a buffer of the newest labels, or the `article`'s way."""
    heal_steps: Count = 5
    """Full-batch steps of the `article` recipe."""
    heal_lr: Positive = 0.003
    """Adam's learning rate on the adapter, for both recipes."""
    alpha: Share = 0.70
    """`article`: weight of the loss on labels; the rest goes to consistency with the rules."""
    lambda_lag: Annotated[float, Field(ge=0)] = 0.80
    """`article`: further weight of the consistency loss."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.03
    """`article`: weight of the entropy loss."""
    pos_weight_floor: Share = 0.10
    """`article`: share of fraud among the conflicts below which no class weight is used."""
    pos_weight_base: Positive = 2.0
    """`article`: class weight at the floor."""
    pos_weight_slope: Annotated[float, Field(ge=0)] = 10.0
    """`article`: class weight gained for each unit of that share above the floor."""
    pos_weight_max: Positive = 4.0
    """`article`: the largest class weight."""
    heal_rows: Count = 25
    """`replay`: labels that are tested on, then trained on, in one round."""
    buffer_rows: Count = 20_000
    """`replay`: labelled rows that are kept to train on: the newest, and of a rare class older
    ones too."""
    replay_rate: Positive = 0.05
    """`replay`: minibatch steps for each row answered meanwhile, at most ten times the labels."""
    replay_first: Count = 30
    """`replay`: steps of a line's first round; the k-th has a k-th of it, or what the rate asks."""
    replay_batch: Count = 256
    """`replay`: rows of one minibatch."""
    replay_half_life: Positive = 300.0
    """`replay`: a row this many labels older is drawn half as often."""
    replay_rare: Positive = 100.0
    """`replay`: the half-life is long enough to hold this many labels of the rarest class."""
    replay_average: Share = 0.8
    """`replay`: what is kept, over 100 labels, of the moving average of the weights; the less, the
    more of the targets comes from the anchor, whose soft labels need no averaging."""
    anchor_labels: Annotated[float, Field(ge=0)] = 2000.0
    """`replay`: labels outside the commonest class that a line has seen when the anchor's soft
    labels weigh as much as its own; their odds fall with the square of that. 0 is no anchor."""
    anchor_floor: Share = 0.5
    """`replay`: the least weight of the anchor's soft labels."""
    anchor_half_life: Positive = 1000.0
    """`replay`: half-life, in labels, of what the anchor is fitted to."""
    anchor_rare: Positive = 300.0
    """`replay`: that half-life is long enough to hold this many labels of the rarest class."""
    anchor_ridge: Positive = 0.5
    """`replay`: ridge that pulls the anchor to what the shadow says."""
    adapter_norm: Positive = 100.0
    """Largest distance of healed adapter weights from the packaged ones, Euclidean."""
    health_window: Count = 5
    """Labelled batches in the rolling means that health watches."""


DetectorName = Literal["adwin", "kswin", "page-hinkley"]
