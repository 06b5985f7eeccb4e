"""The parameters of the article's experiment, and its ablations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.config.validation import Count, Positive, Share, describe
from bento_selfheal.errors import SettingsError


class TrainingSettings(HealParameters):
    """The article's data and its first training."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    recipe: Literal["article"] = "article"
    """The experiment is the article's, and so is its heal."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of torch's and NumPy's global generators."""
    drift_strength: float = 2.2
    """How far V14 of normal rows moves down."""
    n_train: Count = 5000
    """Rows to train on."""
    n_test: Count = 1000
    """Clean rows to test on."""
    n_drift: Count = 1000
    """Drifted rows, from which the batches are drawn."""
    fraud_rate: Share = 0.15
    """Share of fraud in each data set."""
    input_dim: Annotated[int, Field(ge=1)] = 10
    """Number of features."""
    hidden_dim: Count = 64
    """Width of the hidden layers and of the adapter."""
    sensitive_index: Annotated[int, Field(ge=0)] = 7
    """Column of V14."""
    rule_value: float = -1.5
    """V14 below it means fraud, says the rule."""
    epochs: Count = 20
    """Epochs of the first training."""
    train_lr: Positive = 0.001
    """Adam's learning rate in the first training."""
    train_batch: Count = 100
    """Rows of a minibatch in the first training."""


class ExperimentSettings(TrainingSettings):
    """Every parameter of the article, under its own name."""

    batches: Count = 25
    """Drifted batches that are streamed."""
    rollback_f1_drop: Share = 0.08
    """F1 this far below the first heal's, as a rolling mean, rolls back."""
    rollback_acc_drop: Share = 0.10
    """Accuracy this far below the first heal's, as a rolling mean, rolls back."""
    conflicts_are_fraud: bool = False
    """Ablation v1: conflicting rows are labelled fraud outright."""
    heal_fraud_floor: Share = 0.0
    """Ablation v6: heal only when this share of the conflicting rows is fraud."""

    @property
    def thresholds(self) -> Thresholds:
        """When the experiment rolls back."""
        return Thresholds(
            rollback_f1_drop=self.rollback_f1_drop, rollback_acc_drop=self.rollback_acc_drop
        )


NO_CLASS_WEIGHT = {"pos_weight_base": 1.0, "pos_weight_slope": 0.0, "pos_weight_max": 1.0}
ABLATIONS: dict[str, dict[str, Any]] = {
    "v1": {"conflicts_are_fraud": True},
    "v2": {"fidi_threshold": 2.0},
    "v3": NO_CLASS_WEIGHT,
    "v4": {"pos_weight_floor": 0.0, "pos_weight_base": 6.0, "pos_weight_slope": 0.0,
           "pos_weight_max": 6.0},
    "v5": {"pos_weight_floor": 0.0, "pos_weight_base": 2.0, "pos_weight_slope": 0.0},
    "v6": {"heal_fraud_floor": 0.10},
    "v7": {**NO_CLASS_WEIGHT, "entropy_weight": 0.0},
}  # fmt: skip
"""The article's iterations (article.md, section 9) as changes of its final settings."""


def experiment_settings(
    seed: int, ablation: str | None = None, changes: dict[str, str] | None = None
) -> ExperimentSettings:
    """Settings from a seed, an ablation and ``NAME=VALUE`` changes, the last winning.

    Raises:
        SettingsError: A name or a value does not fit; each is named.
    """
    if ablation is not None and ablation not in ABLATIONS:
        raise SettingsError(f"ablation: {ablation!r} is none of {', '.join(ABLATIONS)}")
    chosen = {"seed": seed, **ABLATIONS.get(ablation or "", {}), **(changes or {})}
    try:
        settings = ExperimentSettings.model_validate(chosen)
    except ValidationError as error:
        raise SettingsError(describe(error)) from error
    if settings.sensitive_index >= settings.input_dim:
        raise SettingsError(
            f"sensitive_index: {settings.sensitive_index} is beyond the "
            f"{settings.input_dim} features"
        )
    return settings
