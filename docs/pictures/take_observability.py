"""Take the pictures of observability.md again: `python docs/pictures/take_observability.py`.

Needs Debian's `prometheus` and `chromium`, and `pip install playwright`; installs arize-phoenix
into an environment of its own. Takes some three minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "live")]

from backends import PROJECT, Phoenix, Prometheus, phoenix, prometheus, sends_to  # noqa: E402
from conftest import wait_for  # noqa: E402

from bento_selfheal.packaging.model_store import use_home  # noqa: E402
from bento_selfheal.simulation.demo import demo_stream, package_demo  # noqa: E402
from bento_selfheal.simulation.driver import Driver  # noqa: E402
from bento_selfheal.simulation.server import ServedService  # noqa: E402

WORKERS = 2
PAUSE_SECONDS = 2.5
"""Between two batches, so that a graph has a shape."""
GRAPHS = {
    "prometheus-accuracy.png": "{__name__=~'selfheal_(champion|shadow)_accuracy_ratio'}",
    "prometheus-signals.png": "{__name__=~'selfheal_(signal|threshold)_z'}",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        use_home(folder / "bentoml")
        package = package_demo(42)
        traces = stack.enter_context(phoenix(folder / "phoenix"))
        server = stack.enter_context(
            ServedService(
                "service:SelfHealing",
                home=folder / "bentoml",
                log=folder / "server.log",
                cwd=ROOT,
                env={"SELFHEAL_MODEL": package.tag, "SELFHEAL_WORKERS": str(WORKERS),
                     **sends_to(traces)},
            )
        )  # fmt: skip
        metrics = stack.enter_context(prometheus(folder / "prometheus", server.url))
        start = time.monotonic()
        for report in Driver(server.url, package, WORKERS).run(demo_stream(36, 10, 2.2, 42)):
            print(report.number, report.state, report.action)
            time.sleep(PAUSE_SECONDS)
        heal = wait_for(lambda: promoted(traces), "a heal that promoted")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox"]
            )
            take_trace(browser, traces, heal)
            take_graphs(browser, metrics, round(time.monotonic() - start))


def promoted(traces: Phoenix) -> dict[str, Any] | None:
    """The first heal whose line was let through."""
    heals = [s for s in traces.spans() if s["name"] == "selfheal.heal"]
    won = [s for s in heals if s["attributes"]["selfheal.outcome"] == "promoted"]
    return min(won, key=lambda s: str(s["start_time"]), default=None)


def open_page(browser: Browser, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    page.set_default_timeout(60_000)
    return page


def take_trace(browser: Browser, traces: Phoenix, heal: dict[str, Any]) -> None:
    """The tree of the heal, with the heal's own attributes beside it."""
    [project] = [p for p in traces.get("/v1/projects").json()["data"] if p["name"] == PROJECT]
    page = open_page(browser, 1440, 840)
    page.goto(f"{traces.base_url}/projects/{project['id']}/traces/{heal['context']['trace_id']}")
    page.get_by_text("selfheal.heal").first.click()
    page.get_by_role("tab", name="Attributes").click()
    page.get_by_text("selfheal.loss.total").wait_for()
    page.get_by_role("dialog").screenshot(path=HERE / "phoenix-heal.png")


def take_graphs(browser: Browser, metrics: Prometheus, seconds: int) -> None:
    """Prometheus' own graph page for a query over so many seconds."""
    for name, query in GRAPHS.items():
        page = open_page(browser, 1100, 700)
        asked = {"g0.expr": query, "g0.tab": "0", "g0.range_input": f"{seconds}s"}
        page.goto(f"{metrics.base_url}/graph?{urlencode(asked)}")
        page.locator(".rickshaw_graph svg path").first.wait_for()
        page.locator(".legend .line").last.wait_for()
        page.screenshot(path=HERE / name, full_page=True)


if __name__ == "__main__":
    main()
