"""Feeds of labels: where the runner fetches labels by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from bento_selfheal.config.groups import Group
from bento_selfheal.config.validation import Seconds

Column = Annotated[str, Field(min_length=1, max_length=200)]


class Feed(BaseModel):
    """A query to a database that is asked again and again, or a folder that is watched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    key: Column
    label: Column
    time: Column | None = None
    token: str = "operator"  # noqa: S105 - its name; as labels come without tokens
    seconds: Seconds = 60.0
    url: SecretStr | None = None
    query: str | None = None
    cursor: Column | None = None
    folder: Path | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        of_query = [self.url, self.query, self.cursor]
        if (self.folder is None and None in of_query) or (self.folder and any(of_query)):
            raise ValueError("give either url, query and cursor, or folder")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The column of each field of a label."""
        fields = {"key": self.key, "label": self.label, "time": self.time}
        return {name: column for name, column in fields.items() if column is not None}


class FeedSettings(Group):
    """Labels from elsewhere."""

    feeds: tuple[Feed, ...] = ()
    """Databases and folders that the runner fetches labels from: a table `[[feeds]]` each in
    `selfheal.toml`, or a JSON list. See [Labels](labels.md#feeds)."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [feed.name for feed in self.feeds]
        if len(set(names)) < len(names):
            raise ValueError(f"feeds: two of them have the same name; their names are {names}")
        return self
