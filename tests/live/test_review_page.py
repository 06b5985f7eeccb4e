"""The Review tab in a real browser: rows are shown and labelled by one key each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_for
from live import Client, served
from playwright.sync_api import Browser, Page, Route, expect

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.demo import demo_stream
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.store import SqlStore

SECONDS = 30_000
BUDGET = 1000
FEEDBACK, OPERATE, PREDICT = (
    "-".join((name, "0123456789abcdef")) for name in ("desk", "op", "shop")
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the service's state."""
    return tmp_path_factory.mktemp("review")


@pytest.fixture(scope="module")
def server(home: Path, package: Package, folder: Path) -> Iterator[ServedService]:
    """A service that asks for labels of some 100 rows that it has answered."""
    settings = {
        "review": "queue", "review_budget": BUDGET, "workers": 1,
        "feedback_tokens": f"desk={FEEDBACK}", "operate_tokens": f"op={OPERATE}",
        "predict_tokens": f"shop={PREDICT}",
    }  # fmt: skip
    with served(home, package, folder, **settings) as server, Client(server) as client:
        client.headers["Authorization"] = f"Bearer {PREDICT}"
        for rows, _ in demo_stream(10, 0, 3.5, 1):
            client.predict(rows.tolist())
        client.headers["Authorization"] = f"Bearer {OPERATE}"
        wait_for(lambda: client.read("/status")["predicted_rows"] == 1000, "the rows to be read")
        yield server


@pytest.fixture
def page(browser: Browser, server: ServedService) -> Iterator[Page]:
    """The Review tab, opened by somebody who may send labels and nothing else."""
    page = browser.new_page(viewport={"width": 420, "height": 900}, color_scheme="dark")
    page.set_default_timeout(SECONDS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.add_init_script(f"sessionStorage.setItem('review-token', '{FEEDBACK}')")
    page.goto(f"{server.url}/selfheal/#review")
    expect(page.locator("#review-one")).to_be_visible(timeout=SECONDS)
    yield page
    page.close()
    assert wrong == []


def labels(folder: Path) -> list[FeedbackRecord]:
    """The log of labels."""
    store = SqlStore(f"sqlite:///{folder / 'state' / 'selfheal.db'}")
    found = [e for e in store.read_log(0, 0, 10_000) if isinstance(e, FeedbackRecord)]
    store.close()
    return found


def left(page: Page) -> int:
    return int(page.locator("#review-left").inner_text().split()[0])


def shown(page: Page) -> str:
    return page.locator("#review-row").inner_text()


def test_by_keys_alone(page: Page, folder: Path) -> None:
    """A key gives the label and shows the next row; undo takes the label back and shows the row
    again, which may get another one. What happens is told to screen readers."""
    before, first, count = labels(folder), shown(page), left(page)
    told = page.locator("#review-told")
    page.keyboard.press("1")
    expect(told).to_contain_text("Labelled 1. The model says")
    assert shown(page) != first
    assert left(page) == count - 1
    page.keyboard.press("u")
    expect(told).to_contain_text("The label 1 is taken back")
    assert shown(page) == first
    page.keyboard.press("0")
    expect(told).to_contain_text("Labelled 0.")
    new = labels(folder)[len(before) :]
    assert [label.label for label in new] == [1, NO_LABEL, 0]
    assert len({(label.request, label.row) for label in new}) == 1
    assert {label.source for label in new} == {"desk"}
    page.keyboard.press("Control+1")
    page.keyboard.press("x")
    assert len(labels(folder)) == len(before) + 3


def test_by_buttons(page: Page, folder: Path) -> None:
    """Every class has a button, which says its key; a row may be skipped; nothing sticks out."""
    before, first = len(labels(folder)), shown(page)
    button = page.get_by_role("button", name="Label 1", exact=True)
    assert button.get_attribute("aria-keyshortcuts") == "1"
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    page.get_by_role("button", name="Skip").click()
    expect(page.locator("#review-told")).to_contain_text("Skipped.")
    assert shown(page) != first
    button.click()
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    assert len(labels(folder)) == before + 1
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_two_people_see_other_rows(page: Page, browser: Browser, server: ServedService) -> None:
    """Two tabs at once have no row in common."""
    other = browser.new_page()
    other.add_init_script(f"sessionStorage.setItem('review-token', '{FEEDBACK}')")
    given: list[str] = []
    other.on("response", lambda r: given.append(r.text()) if "/review?" in r.url else None)
    other.goto(f"{server.url}/selfheal/#review")
    expect(other.locator("#review-one")).to_be_visible(timeout=SECONDS)
    assert shown(other) != shown(page)
    other.close()


def test_the_tabs(page: Page, browser: Browser, server: ServedService) -> None:
    """The Review tab asks for a feedback token, which is good for it alone; the arrow keys lead to
    the Overview, which asks for its own."""
    other = browser.new_context().new_page()
    other.goto(f"{server.url}/selfheal/#review")
    dialog = other.get_by_role("dialog")
    expect(dialog).to_contain_text("Feedback token", timeout=SECONDS)
    other.get_by_label("token", exact=True).fill(FEEDBACK)
    dialog.get_by_role("button", name="Continue").click()
    expect(other.locator("#review-one")).to_be_visible(timeout=SECONDS)
    tab = other.get_by_role("tab", name="Review")
    expect(tab).to_have_attribute("aria-selected", "true")
    tab.focus()
    other.keyboard.press("ArrowRight")
    expect(other.get_by_role("tab", name="Overview")).to_have_attribute("aria-selected", "true")
    expect(dialog).to_contain_text("Operator token", timeout=SECONDS)
    other.get_by_label("token", exact=True).fill(OPERATE)
    dialog.get_by_role("button", name="Continue").click()
    expect(other.locator("#state")).not_to_have_text("…", timeout=SECONDS)
    other.context.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [({"rule": "all", "budget": None, "left": None}, "SELFHEAL_REVIEW=queue"),
     ({"rule": "queue", "budget": 9, "left": 0}, "More come at 0:00 UTC"),
     ({"rule": "queue", "budget": 9, "left": 9}, "Nothing to label now")],
    ids=["no queue", "budget used up", "nothing yet"],
)  # fmt: skip
def test_no_row(page: Page, answer: dict[str, object], says: str) -> None:
    """Without a row the tab says why, and what to do."""

    def nothing(route: Route) -> None:
        route.fulfill(json={**answer, "classes": [0, 1], "rows": []})

    page.route("**/review?*", nothing)
    page.reload()
    expect(page.locator("#review-none")).to_contain_text(says, timeout=SECONDS)
