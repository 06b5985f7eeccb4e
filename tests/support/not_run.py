"""Say at the end of a run which tests were not run, and how to run them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

SLOW = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Count from zero."""
    config.stash[SLOW] = 0


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count the slow tests that are left out because they are slow."""
    for item in items:
        option = item.config.option
        if "not slow" in option.markexpr and not option.keyword and "slow" in item.keywords:
            item.config.stash[SLOW] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller of parallel workers what this worker left out."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["slow"] = session.config.stash[SLOW]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over a worker's count; every worker collects, and leaves out, the same tests."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[SLOW] = max(node.config.stash[SLOW], output.get("slow", 0))


def reason_of(report: Any) -> str:
    """Why a test was skipped, in its own words."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(told).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason, the most frequent first."""
    slow = terminalreporter.config.stash[SLOW]
    reasons = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", []))
    lines = [f"{number} skipped: {reason}" for reason, number in reasons.most_common()]
    if slow:
        lines.append(f"{slow} slow: run them with `make test-slow`")
    if lines:
        terminalreporter.section("tests that were not run")
        for line in lines:
            terminalreporter.write_line(line)
