"""Which tests run in the same process, when they run in several."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling


class ServersTogether(LoadScopeScheduling):
    """Tests of one file share a process and its fixtures; so do all tests on real servers, whose
    servers then start one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return "tests/live" if file.startswith("tests/live/") else file
