"""The requests and answers of the HTTP API, shared by clients and the service.

This module imports neither torch nor BentoML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from bento_selfheal.core.records import Label, Snapshot

NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
LABEL_TABLES = (CSV, PARQUET, ARROW)
"""Bodies of `/feedback` besides JSON."""
REQUEST_HEADER = "selfheal-request"
"""Of an answer that is a NumPy file: a row's id is its value, a dot, and the row's number."""
THRESHOLD_HEADER = "selfheal-threshold"
VERIFIED_HEADER = "selfheal-verified"
VERSION_HEADER = "selfheal-model-version"
CANDIDATE_HEADER = "selfheal-candidate"
"""Tag of the candidate that answered; not there where the champion did."""
REVIEW_HEADER = "selfheal-review"
"""Of an answer that is a NumPy file, where only some rows are looked at: a JSON object with
`explored`, the probability of most rows, and two bitmaps in base64, a bit a row, the first row in
the highest bit: `certain`, whether it is 1, and `asked`, whether the label is asked for."""
FACTS_HEADER = "selfheal-facts"
"""Of a request whose body is one input: its facts, a JSON object."""
KEYS_HEADER = "selfheal-keys"
"""Of a request whose body is a NumPy file or one input: the keys of its rows, a JSON list. A column
of this name holds those of an Arrow stream."""
BAD_ROWS_HEADER = "selfheal-bad-rows"
"""Of a table of labels: with the value `report`, its good rows are kept although some are bad."""
REPORT = "report"
LONGEST_KEY = 200
"""Characters of a row's own key."""
NO_NUL = r"^[^\x00]*$"
"""What texts must match that go to the store: PostgreSQL keeps no NUL."""

NUMBER_ROW = {"type": "array", "items": {"type": "number"}}
NAMED_ROW = {"type": "object", "additionalProperties": {"type": "number"}}
Rows = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Rows, as lists in the order of the features or as objects by name.",
            "type": "array",
            "items": {"oneOf": [NUMBER_ROW, NAMED_ROW]},
            "example": [[0.1, -0.4, 1.2, 0.0, 0.3, -1.1, 0.8, -2.7, 0.2, 0.5]],
        }
    ),
]
Facts = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Named facts of each input of a network, or one object for all.",
            "oneOf": [
                {"type": "array", "items": {"type": "object"}}, {"type": "object"}, {"type": "null"}
            ],
        }
    ),
]  # fmt: skip
KEY: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": NO_NUL},
        {"type": "integer"},
    ]
}
Keys = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Your own key of each row, to send its label by: as many as rows, each "
            "once. An integer is the same key as its text.",
            "oneOf": [{"type": "array", "items": KEY, "uniqueItems": True}, {"type": "null"}],
            "example": ["tx-1"],
        }
    ),
]


def text_of_key(key: Any) -> Any:
    """A key that is an integer as its decimal text, as in CSV files; others as they are."""
    return str(key) if isinstance(key, int) and not isinstance(key, bool) else key


OwnKey = Annotated[
    str | None,
    BeforeValidator(text_of_key),
    WithJsonSchema({"anyOf": [*KEY["oneOf"], {"type": "null"}]}),
]
Row = Annotated[Any, WithJsonSchema({"oneOf": [NUMBER_ROW, NAMED_ROW, {"type": "null"}]})]
LabelValue = Annotated[
    Any, WithJsonSchema({"oneOf": [{"type": "integer"}, {"type": "string"}], "example": 1})
]


def _is_missing(value: Any) -> bool:
    return value is None


class Predictions(BaseModel):
    """One entry per row, in the order of the rows."""

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
    """Send a row's id back with its label, whenever the label is known."""
    probabilities: list[float] | list[list[float]]
    """Probability of the second of two classes; of more than two classes, one number per class."""
    decisions: list[Label]
    """The class by the decision threshold; of more than two classes, the most likely one."""
    threshold: float
    """The decision threshold that the decisions were made with."""
    verified: bool
    """False while no label has confirmed the threshold."""
    model_version: int
    """Version of the snapshot that answered; with `candidate`, that of the champion behind it."""
    candidate: str | None = Field(default=None, exclude_if=_is_missing)
    """Tag of the candidate that answered; not there where the champion did."""
    review: list[bool] | None = Field(default=None, exclude_if=_is_missing)
    """Whether the row's label is asked for. Like the next field, there where the setting `review`
    is not `all`."""
    review_probability: list[float] | None = Field(default=None, exclude_if=_is_missing)
    """How likely that was."""


class FeedbackItem(BaseModel):
    """A label for a prediction, named by your key or its id, or for a row given by its features."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "key": "tx-1", "label": 1, "source": "fraud-desk",
            }
        },
    )  # fmt: skip

    retract: bool = False
    """Take the label back that the same source gave; there is no `label` then."""
    label: LabelValue = Field(default=None, validate_default=True)
    """One of the model's classes."""
    prediction_id: str | None = Field(default=None, pattern=NO_NUL)
    """As returned by `/predict`."""
    features: Row = None
    """The row itself, if it was never predicted here."""
    key: OwnKey = Field(default=None, min_length=1, max_length=LONGEST_KEY, pattern=NO_NUL)
    """Your own key, as sent to `/predict` with the same token: the label belongs to the newest
    prediction of the key. With `features`, the key of that row; without keys, equal rows count
    once."""
    source: str | None = Field(default=None, max_length=200, pattern=NO_NUL)
    """Who or what assigned the label; with tokens, a name among the sources of the token."""
    corrects: bool = False
    """Replace a different label that was sent before."""
    time: float | None = Field(default=None, allow_inf_nan=False)
    """When the label was known, in seconds since the epoch; now, where it is left out."""

    @field_validator("label")
    @classmethod
    def _is_there(cls, label: Any, info: ValidationInfo) -> Any:
        """A label may be missing only where one is taken back."""
        if label is None and not info.data.get("retract"):
            raise PydanticCustomError("label", "a label is needed, or retract")
        return label


class RejectedRow(BaseModel):
    """A row of a table that is no label of this model."""

    model_config = ConfigDict(frozen=True)

    item: int
    """Its number, from 0."""
    reason: str
    """Names the column and the value."""


class FeedbackCounts(BaseModel):
    """What happened to the items."""

    model_config = ConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "accepted": 99, "already_known": 0, "unknown": 1, "unmatched": 0, "waiting": 0,
                "in_conflict": 0,
                "unknown_ids": ["nobody-issued-this.0"], "conflicts": [],
            }
        }
    )  # fmt: skip

    accepted: int
    """New labels, on disk now."""
    already_known: int
    """Labels that were sent before."""
    unknown: int
    """Items whose prediction id was not issued by this service."""
    unmatched: int
    """Of the accepted labels, those that healing cannot use: their prediction is past its
    retention, or was not logged."""
    waiting: int = 0
    """Of the accepted labels, those whose key has no prediction in the log yet: they count once it
    is there."""
    in_conflict: int
    """Items that contradict a label sent before; send `corrects` to replace it."""
    unknown_ids: list[str]
    conflicts: list[dict[str, Any]]
    """For each: the place of the item, its prediction id or key, the label sent, the one kept."""


class TableCounts(FeedbackCounts):
    """What happened to the rows of a table of labels."""

    rejected: list[RejectedRow] = []
    """Rows that were left out, where the request asked for that."""


class ClassesAnswer(BaseModel):
    """The classes of the model, in the order of an answer's probabilities."""

    model_config = ConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"digest": "8a1c5b0e9d2f4c67", "classes": [0, 1]}},
    )

    digest: str
    """Names them: other classes have another one."""
    classes: list[Label]


class CommandAnswer(BaseModel):
    """A command that the healing runner will carry out."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"example": {"command": "heal", "seq": 3}}
    )

    command: str
    seq: int


class ErasureAnswer(BaseModel):
    """A row was erased."""

    model_config = ConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"erased": True, "rolled_back_to": None}},
    )

    erased: bool
    """True: the row is gone from the store, and whatever was trained on it serves no more."""
    rolled_back_to: int | None
    """Version of the snapshot that serves from now on; null where what served never saw the row."""


@dataclass(frozen=True)
class KeptSnapshot(Snapshot):
    """A snapshot as `/snapshots` shows it."""

    serving: bool = False
    previous: bool = False
    """Whether a rollback without a version would restore it."""
    share: float = 0.0
    """Share of the requests that it answers now."""
