"""Take the pictures of the page again: `make pictures`. Needs Debian's chromium."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.simulation.demo import demo_stream, package_demo
from bento_selfheal.simulation.driver import Driver
from bento_selfheal.simulation.server import ServedService

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BATCHES, CLEAN, SEED = 45, 10, 42
PACE_SECONDS = 1.0
"""From one batch to the next: time for the page to show what a batch did."""


def take(browser: Browser, url: str, name: str, width: int, height: int, scheme: str) -> None:
    """One picture of the overview, cut at the height given."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = context.new_page()
    page.goto(f"{url}/selfheal/")
    expect(page.locator("#chart-accuracy canvas")).to_be_visible(timeout=30_000)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=HERE / name)
    context.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        use_home(home)
        package = package_demo(SEED)
        env = {
            "SELFHEAL_MODEL": package.tag, "SELFHEAL_WORKERS": "1",
            "SELFHEAL_HEAL_SHARE": "1", "SELFHEAL_RUNNER_NICE": "0",
        }  # fmt: skip
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        with ServedService(
            "service:SelfHealing", home=home, log=home / "server.log", cwd=ROOT, env=env
        ) as server:
            for _ in Driver(server.url, package, 1).run(demo_stream(BATCHES, CLEAN, 2.2, SEED)):
                time.sleep(PACE_SECONDS)
            take(browser, server.url, "page.png", 1280, 840, "light")
            take(browser, server.url, "page-dark.png", 1280, 840, "dark")
            take(browser, server.url, "page-narrow.png", 390, 1700, "light")
        browser.close()


if __name__ == "__main__":
    main()
