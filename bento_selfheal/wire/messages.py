"""What goes over the wire between clients and the service; it imports neither torch nor BentoML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from bento_selfheal.core.records import Label, Snapshot

NPY = "application/x-npy"
REQUEST_HEADER = "selfheal-request"
"""With a NumPy file as the answer: a row's id is this, a dot, and the row's number."""
CLASSES_HEADER = "selfheal-classes"
THRESHOLD_HEADER = "selfheal-threshold"
VERIFIED_HEADER = "selfheal-verified"
VERSION_HEADER = "selfheal-model-version"
NO_NUL = r"^[^\x00]*$"  # PostgreSQL keeps no such text

NUMBER_ROW = {"type": "array", "items": {"type": "number"}}
NAMED_ROW = {"type": "object", "additionalProperties": {"type": "number"}}
Rows = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Rows as lists in the order of the features, or as objects by name.",
            "type": "array",
            "items": {"oneOf": [NUMBER_ROW, NAMED_ROW]},
            "example": [[0.1, -0.4, 1.2, 0.0, 0.3, -1.1, 0.8, -2.7, 0.2, 0.5]],
        }
    ),
]
Row = Annotated[Any, WithJsonSchema({"oneOf": [NUMBER_ROW, NAMED_ROW, {"type": "null"}]})]
LabelValue = Annotated[
    Any, WithJsonSchema({"oneOf": [{"type": "integer"}, {"type": "string"}], "example": 1})
]


class Predictions(BaseModel):
    """One entry a row, in the order of the rows."""

    model_config = ConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "prediction_ids": ["jBVCu9BvFXxJTBuyAAABRbGnIJZ6vM1N.0"],
                "probabilities": [0.91],
                "decisions": [1],
                "threshold": 0.5,
                "verified": True,
                "model_version": 5,
            }
        },
    )

    prediction_ids: list[str]
    """Give one back with the label, whenever it comes."""
    probabilities: list[float] | list[list[float]]
    """Of the second of two classes; of many, one number a class."""
    decisions: list[Label]
    """The class at the decision threshold, or the likeliest of many."""
    threshold: float
    """The decision threshold."""
    verified: bool
    """False while the threshold is held without any label to say that it is right."""
    model_version: int
    """The snapshot that answered."""


class FeedbackItem(BaseModel):
    """A label, for a prediction by its id or for a row by its features."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "prediction_id": "jBVCu9BvFXxJTBuyAAABRbGnIJZ6vM1N.0", "label": 1,
                "source": "fraud-desk",
            }
        },
    )  # fmt: skip

    label: LabelValue
    """One of the model's classes."""
    prediction_id: str | None = None
    """As `/predict` gave it."""
    features: Row = None
    """The row itself, where the client keeps no ids."""
    key: str | None = Field(default=None, max_length=200, pattern=NO_NUL)
    """With `features`: the client's own key of the row. Without one, equal rows count once."""
    source: str | None = Field(default=None, max_length=200, pattern=NO_NUL)
    """Who labelled it."""
    corrects: bool = False
    """Replaces a different label kept before."""


class FeedbackCounts(BaseModel):
    """What became of the items."""

    model_config = ConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "accepted": 99, "already_known": 0, "unknown": 1, "unmatched": 0, "in_conflict": 0,
                "unknown_ids": ["nobody-issued-this.0"], "conflicts": [],
            }
        }
    )  # fmt: skip

    accepted: int
    """New, and on disk now."""
    already_known: int
    """Sent before with the same label."""
    unknown: int
    """Ids that nobody issued."""
    unmatched: int
    """Of the accepted ones: kept, but their prediction is past retention or was left out of the
    log, so healing learns nothing from them."""
    in_conflict: int
    """Another label is kept; send `corrects` to replace it."""
    unknown_ids: list[str]
    conflicts: list[dict[str, Any]]
    """Each with its item, prediction id, the label given and the one kept."""


class CommandAnswer(BaseModel):
    """A command that the runner has been asked to carry out."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"example": {"command": "heal", "seq": 3}}
    )

    command: str
    seq: int


@dataclass(frozen=True)
class KeptSnapshot(Snapshot):
    """A snapshot as operators see it."""

    serving: bool = False
    best: bool = False
    """A rollback without a version would restore it."""
