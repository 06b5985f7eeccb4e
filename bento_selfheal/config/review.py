"""Settings of which rows are looked at."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bento_selfheal.config.groups import Group
from bento_selfheal.config.validation import Explored, Float, Int


class ReviewSettings(Group):
    """Which rows are looked at."""

    review: Literal["all", "flagged", "capacity", "queue"] = "all"
    """Which rows' labels will be asked for. `all`: every row's. `flagged`: those of rows that are
    flagged. `capacity`: those of the most suspicious rows, `review_share` of all. Answers say for
    each row whether its label is asked for. `queue`: those that tell most, `review_budget` a day,
    which `GET /review` hands out. Figures and the gate weigh by each row's chance."""
    review_share: Annotated[Float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.05
    """Share of the rows that `review=capacity` asks for."""
    review_explored: Explored = 0.0
    """Share of the other rows whose labels `flagged` and `capacity` ask for, drawn at random: 0, or
    0.001 and more. Without, nothing is known of rows that are never looked at, and nothing is
    promoted. `queue` always asks for some at random."""
    review_budget: Annotated[Int, Field(ge=1, le=100_000)] | None = None
    """Rows that people can label in a day (UTC): `GET /review` hands out no more. `review=queue`
    needs it, and asks for as many. Without it, there is no limit."""

    @model_validator(mode="after")
    def _check_review(self) -> Self:
        if self.review == "queue" and self.review_budget is None:
            raise ValueError(
                "review='queue' needs review_budget: how many rows people can label in a day"
            )
        if self.review == "queue" and self.review_explored:
            raise ValueError(
                f"review_explored={self.review_explored} has no effect with review='queue', which "
                "always asks for some rows at random; leave it out"
            )
        if self.review == "all" and self.review_budget is not None:
            raise ValueError(
                f"review_budget={self.review_budget} has no effect with review='all', which asks "
                "for every row's label; set review='queue'"
            )
        return self
