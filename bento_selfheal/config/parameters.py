"""How drift is seen and how a heal trains."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from bento_selfheal.config.validation import Count, NotNegative, Positive, Share


class SignalParameters(BaseModel):
    """What counts as drift. The names are the article's where it has one."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    batch_size: Count = 100
    """Rows of the prediction log that form one batch for the signals and the metrics."""
    fidi_threshold: Positive = 1.0
    """A sensitive feature has drifted when its z is above this. z is the distance of its mean over
    the newest batches from the reference mean, in standard deviations of samples."""
    fidi_window: Count = 10
    """Number of batch means that FIDI averages."""
    conflict_thr: Share = 0.30
    """A row that a rule flags is a conflict when the model gives the rule's class a probability
    below this."""
    conflict_min: Count = 5
    """Number of conflicts in one batch that requests a heal."""
    error_drop: Share = 0.05
    """A heal is requested when the rolling mean of the accuracy on labels is this far below the
    accuracy on the reference set."""
    agreement_z: Positive = 4.0
    """The share of rows on which rules and model agree has drifted when it is this many standard
    errors away from the usual one."""
    health_window: Count = 5
    """Number of labelled batches in the rolling means that the health check watches."""


class ArticleParameters(BaseModel):
    """How the recipe `article` trains. The names are the article's."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    heal_steps: Count = 5
    """`article`: number of full-batch steps."""
    heal_lr: Positive = 0.003
    """Adam's learning rate on the adapter, for the recipes `replay`, `race` and `article`."""
    alpha: Share = 0.70
    """`article`: weight of the loss on labels. The rest goes to consistency with the rules."""
    lambda_lag: NotNegative = 0.80
    """`article`: additional weight of the consistency loss."""
    entropy_weight: NotNegative = 0.03
    """`article`: weight of the entropy loss."""
    pos_weight_floor: Share = 0.10
    """`article`: no class weight is used when the share of fraud among the conflicts is below
    this."""
    pos_weight_base: Positive = 2.0
    """`article`: class weight at that floor."""
    pos_weight_slope: NotNegative = 10.0
    """`article`: class weight gained per unit of that share above the floor."""
    pos_weight_max: Positive = 4.0
    """`article`: largest class weight."""


class ReplayParameters(BaseModel):
    """How the recipe `replay` trains."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    heal_rows: Count = 25
    """`replay`: number of labels in one round. A round is tested on first, then trained on."""
    buffer_rows: Count = 20_000
    """`replay`: number of labelled rows kept for training: the newest, and older ones of a rare
    class."""
    replay_rate: Positive = 0.05
    """`replay`: minibatch steps per row answered in the meantime, at most ten times the labels."""
    replay_first: Count = 30
    """`replay`: minibatch steps of the first round of a challenger line. Round k takes a k-th of
    that, or what `replay_rate` asks for if that is more."""
    replay_batch: Count = 256
    """`replay`: rows in one minibatch."""
    replay_half_life: Positive = 300.0
    """`replay`: a row is drawn half as often when it is this many labels older."""
    replay_rare: Positive = 100.0
    """`replay`: the half-life is at least long enough to hold this many labels of the rarest
    class."""
    replay_average: Share = 0.8
    """`replay`: share of the moving average of the weights that is left after 100 labels. It falls
    as the anchor contributes more of the targets, because soft labels need no averaging."""
    anchor_labels: NotNegative = 2000.0
    """`replay`: the anchor's soft labels weigh as much as the labels themselves when a challenger
    line has seen this many labels outside the most common class. Their odds fall with the square
    of that number. 0 turns the anchor off."""
    anchor_floor: Share = 0.5
    """`replay`: smallest weight of the anchor's soft labels."""
    anchor_half_life: Positive = 1000.0
    """`replay`: half-life, in labels, of the data that the anchor is fitted to."""
    anchor_rare: Positive = 300.0
    """`replay`: that half-life is at least long enough to hold this many labels of the rarest
    class."""
    anchor_ridge: Positive = 0.5
    """`replay`: ridge penalty that pulls the anchor towards the baseline's answers."""
    adapter_norm: Positive = 100.0
    """Largest Euclidean distance of healed adapter weights from the packaged ones."""


class HealParameters(SignalParameters, ArticleParameters, ReplayParameters):
    """How drift is seen and how a heal trains, for the service, replays and the experiment."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    recipe: Literal["race", "replay", "article"] = "race"
    """How a heal trains: the adapter and many small models beside it, whose mixture answers
    (`race`), the adapter alone on a buffer of the newest labels (`replay`), or as the `article`
    does."""


DetectorName = Literal["adwin", "kswin", "page-hinkley"]
"""A drift detector of River."""
