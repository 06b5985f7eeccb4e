"""Columns of text become numbers, booleans and dates where all of their values are."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

MARKERS = ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "NaN", "nan")
"""What stands for a missing value, once surrounding spaces are gone."""
TYPES = (
    pa.int64(), pa.uint64(), pa.float64(), pa.date32(), pa.timestamp("us"),
    pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("ns", "UTC"),
)  # fmt: skip
"""The narrowest first: the first that holds every value is the column's."""
COMMA_NUMBER = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+|)(,\d+)?([eE][+-]?\d+)?$"
LEADING_ZERO, SHORTEST_CODE = r"^0\d+$", 4
GROUPED_BY_COMMA = r"^[+-]?\d{1,3}(,\d{3})+$"


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def without_markers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without surrounding spaces, null where it says that a value is missing."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    missing = pc.is_in(text, value_set=pa.array(MARKERS))
    return pc.if_else(missing, pa.scalar(None, pa.string()), text)


def markers_in(column: pa.ChunkedArray) -> Counter[str]:
    """How often each missing marker is in a column of text."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    found = text.filter(pc.is_in(text, value_set=pa.array(MARKERS))).value_counts()
    return Counter({one["values"]: one["counts"] for one in found.to_pylist()})


def has_comma_numbers(text: pa.ChunkedArray, separator: str) -> bool:
    """Whether a column holds numbers whose decimal mark is a comma.

    In a file that separates by commas, ``"1,234"`` is taken to be grouped, and decides nothing.
    """
    if not _all(pc.match_substring_regex(text, COMMA_NUMBER)):
        return False
    with_comma = text.filter(pc.match_substring(text, ","))
    if not len(with_comma):
        return False
    return separator != "," or not _all(pc.match_substring_regex(with_comma, GROUPED_BY_COMMA))


def typed(text: pa.ChunkedArray, decimal_comma: bool = False) -> pa.ChunkedArray:
    """The values of a column of text, null where one is missing; text again where any is text.

    Args:
        text: A column without markers.
        decimal_comma: Whether ``1.234,5`` stands for 1234.5.
    """
    if text.null_count == len(text):
        return pa.chunked_array([pa.nulls(len(text))])
    lower = pc.utf8_lower(text)
    if _all(pc.is_in(lower, value_set=pa.array(["true", "false", None]))):
        return pc.equal(lower, "true")
    if decimal_comma and _all(pc.match_substring_regex(text, COMMA_NUMBER)):
        text = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
    coded = _are_codes(text)
    for kind in TYPES:
        if coded and not pa.types.is_temporal(kind):
            continue
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return text


def _are_codes(text: pa.ChunkedArray) -> bool:
    """Whether digits are postcodes or accounts: as many in each, and some begin with a zero."""
    if not pc.any(pc.match_substring_regex(text, LEADING_ZERO)).as_py():
        return False
    lengths = pc.min_max(pc.utf8_length(text)).as_py()
    return bool(lengths["min"] == lengths["max"] >= SHORTEST_CODE)


def _all(truths: pa.ChunkedArray) -> bool:
    return bool(pc.all(truths).as_py())
