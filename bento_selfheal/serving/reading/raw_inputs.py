"""Inputs of requests for a network as they came, for the log."""

from __future__ import annotations

import logging
from random import Random

from bento_selfheal.core.records import RawInput
from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.embedding.source import Source
from bento_selfheal.serving.reading.network_inputs import Asked

log = logging.getLogger(__name__)


class RawInputs:
    """Keeps the inputs of a share of the requests.

    Args:
        source: What the inputs are.
        share: Of the requests; 0 where the log holds the inputs anyway.
    """

    def __init__(self, source: Source, share: float) -> None:
        self._source = source
        self._share = 0.0 if isinstance(source, TableRows) else share
        self._draw = Random()  # noqa: S311 - which inputs are kept is no secret
        self._failed = False

    def of(self, asked: Asked) -> tuple[RawInput, ...]:
        """The input of each row of a request that was read; none where it is not to be kept.

        It never raises: an answer does not depend on what is kept of its inputs.
        """
        if not self._share or self._draw.random() >= self._share:
            return ()
        try:
            return tuple(map(self._source.raw, asked.inputs))
        except Exception as error:  # such as a Python object that JSON does not know
            if not self._failed:
                # Without its message, which may quote the input.
                log.error("inputs of such requests are not kept: %s", type(error).__name__)
            self._failed = True
            return ()
