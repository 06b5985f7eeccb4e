"""Whether a package may take another one's place while the service runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from bento_selfheal.errors import PackageError
from bento_selfheal.inputs.column import Column
from bento_selfheal.packaging.package import PackageInfo

TOLD = 5
"""Most columns, and most levels of each, that an error names."""


def check_alike(serving: str, old: PackageInfo, tag: str, new: PackageInfo) -> None:
    """See whether a package may take another one's place while the service runs.

    Raises:
        PackageError: Its features, columns, classes or embedder are others; says which, and what to
            do instead.
    """
    if what := old.differs_in(new):
        if what == "embedding" and old.embedding and new.embedding:
            raise PackageError(
                f"{tag} embeds inputs otherwise than {serving}, which serves, by its "
                f"{_parts_that_differ(old.embedding, new.embedding)}. What is logged and learned "
                f"belongs to one of them. Restart the service with SELFHEAL_MODEL={tag}, where "
                "healing then begins anew, or serve it from a store of its own"
            )
        if what == "columns":
            raise PackageError(_other_columns(serving, old, tag, new))
        had, has = getattr(old, what), getattr(new, what)
        raise PackageError(f"{tag} has the {what} {has}, but {serving}, which serves, has {had}")


def _other_columns(serving: str, old: PackageInfo, tag: str, new: PackageInfo) -> str:
    """Which columns differ in what, and what to do instead."""
    pairs = zip(_columns_of(old), _columns_of(new), strict=True)
    differ = [
        f"{was.name!r} {'; '.join(_differences(was, now))}" for was, now in pairs if was != now
    ]
    more = f", and {len(differ) - TOLD} more" if len(differ) > TOLD else ""
    first = f"[{old.hidden_columns}:]" if old.hidden_columns else ""
    again = (
        f"Package it with the columns that serve, columns=open_package({serving!r}).info.columns"
        f"{first} in Python or the same file for --schema, or start"
    )
    return (
        f"{tag} has other columns than {serving}, which serves: {', '.join(differ[:TOLD])}{more}. "
        "What is logged and learned belongs to those of one model. "
        f"{again if old.rows_hold_inputs else 'Start'} a service of its own: "
        f"SELFHEAL_MODEL={tag} SELFHEAL_STATE_DIR=FOLDER bentoml serve SERVICE"
    )


def _columns_of(info: PackageInfo) -> Sequence[Column]:
    return info.columns or [Column(name=name) for name in info.features]


def _differences(was: Column, now: Column) -> Iterator[str]:
    """What of a column is another, in words."""
    if now.kind is not was.kind:
        yield f"is {now.kind.value}, not {was.kind.value}"
        return
    if now.nullable != was.nullable:
        yield "may be missing" if now.nullable else "is never missing"
    if more := [level for level in now.levels if level not in was.levels]:
        yield f"has the new levels {_listed(more)}"
    if gone := [level for level in was.levels if level not in now.levels]:
        yield f"lacks the levels {_listed(gone)}"
    if now.levels != was.levels and not more and not gone:
        yield "has its levels in another order"
    if now.origin != was.origin:
        yield f"is counted from {now.origin:,.10g}, not from {was.origin:,.10g}"


def _listed(levels: Sequence[str]) -> str:
    more = f" and {len(levels) - TOLD} more" if len(levels) > TOLD else ""
    return ", ".join(map(repr, levels[:TOLD])) + more


def _parts_that_differ(old: BaseModel, new: BaseModel) -> str:
    """Names of what two embeddings do not share."""
    was, now = old.model_dump(), new.model_dump()
    return ", ".join(name for name in was | now if was.get(name) != now.get(name))
