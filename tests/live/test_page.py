"""The page in a real browser: a drifting stream is seen, a rollback is pressed and served."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_for
from live import Client, Feeder, flood, served
from playwright.sync_api import Browser, Page, Route, expect
from worlds import package_article

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

PICTURES = os.environ.get("PICTURES")
"""Folder for pictures of the page, for docs and for eyes."""

pytestmark = pytest.mark.slow
SECONDS = 30_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the service's state."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def server(home: Path, package: Package, folder: Path) -> Iterator[ServedService]:
    with served(home, package, folder, workers=1) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: ServedService) -> Iterator[Page]:
    """A page that may ask nobody but the server, and must not fail."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(SECONDS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on(
        "request",
        lambda r: None if r.url.startswith(server.url) else wrong.append(f"asked {r.url}"),
    )
    page.goto(f"{server.url}/selfheal")
    yield page
    page.close()
    assert wrong == []


@pytest.fixture(scope="module")
def feeder(server: ServedService) -> Iterator[Feeder]:
    with Client(server) as client:
        yield Feeder(client, workers=1)


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def go_to(page: Page, tab: str) -> None:
    """Press a tab, as people do."""
    page.get_by_role("tab", name=tab, exact=True).click()


def press(page: Page, button: str, yes: str) -> None:
    """Press a button and say yes to the question that it asks."""
    page.locator("header").get_by_role("button", name=button, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=yes, exact=True).click()


def test_a_drift_is_seen_and_undone(page: Page, server: ServedService, feeder: Feeder) -> None:
    """The page, opened once and never loaded again, shows the calm, the drift, the heal, the
    promotion and its lift; a rollback, confirmed, is what the service serves."""
    state, story = page.locator("#state"), page.locator("#story")
    for _ in range(3):
        feeder.batch(drift=0.0)
    expect(state).to_have_text("HEALTHY", timeout=SECONDS)
    for _ in range(14):
        feeder.batch()
    expect(state).not_to_have_text("HEALTHY", timeout=SECONDS)
    expect(page.locator("#headline")).to_contain_text("healing helps", timeout=SECONDS)
    expect(page.locator("#advice")).not_to_have_text("…")
    expect(page.locator("#lift")).to_contain_text("+0.")
    expect(page.locator("#ranking-why")).to_contain_text("baseline 0.")
    expect(page.locator("#chart-accuracy canvas")).to_be_visible()
    picture(page, "page")
    go_to(page, "Events")
    expect(page.locator("#events")).to_contain_text("promoted snapshot")
    go_to(page, "Drift")
    expect(page.locator("#rules")).to_contain_text("V14 < -1.5")
    go_to(page, "Models")
    expect(page.locator("#calibration circle").first).to_be_visible()
    expect(page.locator("#confusion tbody tr")).to_have_count(2)
    with Client(server) as client:
        serving = client.read("/status")["serving"]["version"]
        row = page.locator("#snapshots tbody tr").filter(has_text="clean")
        row.get_by_role("button", name="Roll back to this").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert client.read("/status")["serving"]["version"] == serving
        row.get_by_role("button", name="Roll back to this").click()
        picture(page, "page-asks")
        page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
        expect(row.locator(".tag", has_text="serving")).to_be_visible(timeout=SECONDS)
        wait_for(lambda: client.worker()["serving_version"] == 1, "snapshot 1 to serve")
        assert client.predict([[0.0] * 10])["model_version"] == 1
    expect(state).to_have_text("ROLLED BACK", timeout=SECONDS)
    expect(story).to_contain_text("rolled back", timeout=SECONDS)


def test_pause_observe_resume(page: Page, server: ServedService, feeder: Feeder) -> None:
    """What is pressed is in force, and the page says so."""
    with Client(server) as client:
        press(page, "Pause", "Pause")
        wait_for(lambda: client.read("/status")["paused"], "the pause")
        expect(page.locator("#story")).to_contain_text("paused", timeout=SECONDS)
        press(page, "Resume", "Resume")
        wait_for(lambda: not client.read("/status")["paused"], "the resumption")
        press(page, "Observe", "Observe")
        wait_for(lambda: client.read("/status")["mode"] == "observe", "observing")
        expect(page.locator("#story")).to_contain_text("nothing is promoted", timeout=SECONDS)
        press(page, "Promote again", "Promote again")
        wait_for(lambda: client.read("/status")["mode"] == "heal", "promoting again")


def test_nothing_can_be_pressed_before_the_first_figures(page: Page, server: ServedService) -> None:
    """Until it has heard from the service, the page has nothing to ask about."""
    held: list[Route] = []
    page.route("**/status", lambda route: held.append(route))
    page.reload()
    buttons = page.locator("header").get_by_role("button")
    expect(buttons).to_have_count(4)
    assert all(button.is_disabled() for button in buttons.all())
    held[0].continue_()
    expect(page.locator("#pause")).to_be_enabled(timeout=SECONDS)


def test_trouble_is_loud(page: Page, server: ServedService) -> None:
    """What keeps the runner from healing stands in the alarm at the top of the page."""
    why = "The healing step has failed 5 times in a row, after prediction 3 and label 7"

    def troubled(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "trouble": why})

    page.route("**/status", troubled)
    expect(page.get_by_text(why)).to_be_visible(timeout=SECONDS)


def test_sources_and_forget(page: Page, server: ServedService) -> None:
    """A source is shown by its name, as text, and can be forgotten."""
    name = "<b>desk</b>"
    with Client(server) as client:
        asked = client.predict([[0.1] * 10] * 100)
        client.label(asked["prediction_ids"], [0] * 100, source=name)
        go_to(page, "Labels")
        row = page.locator("#sources tbody tr").filter(has_text=name)
        row.get_by_role("button", name="Forget").click(timeout=SECONDS)
        page.get_by_role("dialog").get_by_role("button", name="Forget").click()
        expect(row).to_contain_text("quarantined", timeout=SECONDS)


def test_a_candidate_is_shown_and_withdrawn(page: Page, server: ServedService) -> None:
    """It stands among the models with its share, and its button ends it."""
    tag = package_article(12).tag
    with Client(server) as client:
        client.ask("/candidates/begin", {"tag": tag, "ramp": [0, 100]})
        go_to(page, "Models")
        row = page.locator("#candidate-list tbody tr").filter(has_text=tag)
        expect(row).to_contain_text("1 of 2", timeout=SECONDS)
        picture(page, "page-candidate")
        row.get_by_role("button", name="Withdraw").click(timeout=SECONDS)
        page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
        expect(page.locator("#candidate-list")).not_to_contain_text(tag, timeout=SECONDS)
        [ended] = [c for c in client.read("/candidates") if c["tag"] == tag]
    assert (ended["state"], ended["reason"]) == ("withdrawn", "withdrawn by operator")


def test_a_canary_is_shown(page: Page) -> None:
    """Its share, since when, and what it waits for stand among the models; buttons let it answer
    all, or end it."""
    canary = {
        "version": 900, "share": 0.1, "next_share": 1.0, "since": time.time() - 120, "labels": 40,
        "labels_needed": 100, "compared": 400, "mean_regret": -0.01, "standard_error": 0.02,
        "log_e": 0.1,
    }  # fmt: skip

    def with_canary(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "canary": canary})

    def with_share(route: Route) -> None:
        answer = route.fetch()
        known = answer.json()
        own = {**known[-1], "version": 900, "serving": False, "previous": False, "share": 0.1}
        others = [{**one, "share": 0.9 * one["serving"]} for one in known]
        route.fulfill(response=answer, json=[*others, own])

    expect(page.locator("#pause")).to_be_enabled(timeout=SECONDS)  # nothing is asked for now
    page.route("**/status", with_canary)
    page.route("**/snapshots", with_share)
    page.reload()
    go_to(page, "Models")
    told = "Snapshot 900 answers 10 % of the requests first, since 2 min ago: 40 of 100 labels"
    expect(page.locator("#canary-text")).to_contain_text(told, timeout=SECONDS)
    expect(page.locator("#canary-text")).to_contain_text("until it answers all; loss lower by 0.01")
    row = page.locator("#snapshots tbody tr").filter(has_text="900")
    expect(row).to_contain_text("10 %", timeout=SECONDS)
    champion = page.locator("#snapshots tbody tr").filter(has_text="90 %")
    back = champion.get_by_role("button", name="Roll back to this")
    expect(back).to_be_visible(timeout=SECONDS)
    picture(page, "page-canary")
    row.get_by_role("button", name="Let it answer all").click()
    expect(page.get_by_role("dialog")).to_contain_text("whatever the labels say")
    page.unroute_all(behavior="wait")


def test_a_promotion_shows_its_evidence(page: Page) -> None:
    """A tab has an address of its own; an event opens to what it rests on, and stays open while
    the page looks on."""
    page.goto(page.url.split("#")[0] + "#events")
    promoted = page.locator("#events details").filter(has_text="promoted snapshot").first
    promoted.locator("summary").click()
    expect(promoted.locator(".facts")).to_contain_text("version")
    with page.expect_response("**/status"):
        pass
    expect(promoted.locator(".facts")).to_contain_text("version")
    picture(page, "page-events")


def test_idle_time_is_no_line_and_charts_zoom(page: Page, server: ServedService) -> None:
    """Where nothing was measured for long the line breaks; what is dragged over is shown large,
    until the whole is asked for; a press on a promotion shows its evidence. Who hears the page is
    told the figures of a chart."""
    start = 1_700_000_000.0
    figures = {"state": "HEALTHY", "accuracy": 0.5, "shadow_accuracy": 0.5, "lift": 0.0,
               "lift_low": -0.1, "lift_high": 0.1, "lift_mean": 0.0}  # fmt: skip
    times = [start + 2 * i for i in range(30)] + [start + 1200 + 2 * i for i in range(30)]
    history = [
        {"seq": i, "time": time, "batch": i, "labelled": i, "scored": True, "figures": figures}
        for i, time in enumerate(times, 1)
    ]
    event = {"seq": 1, "time": start + 20, "kind": "promote",
             "detail": {"version": 3, "reason": "evidence 21.0 of 20.0"}}  # fmt: skip
    page.route(re.compile(r"/history\?"), lambda route: route.fulfill(json=history))
    page.route(re.compile(r"/events\?"), lambda route: route.fulfill(json=[event]))
    page.clock.install(time=start + 1300)
    page.reload()
    chart = page.locator("#chart-accuracy .u-over")
    expect(chart).to_be_visible()
    served = page.locator("#chart-accuracy canvas")
    box = chart.bounding_box()
    assert box is not None
    # In the idle minutes nothing blue is drawn at half of the height, where the line is else.
    inked = """(canvas) => {
        const d = devicePixelRatio, over = canvas.parentElement.querySelector('.u-over');
        const x = over.offsetLeft + over.offsetWidth * SHARE;
        const y = over.offsetTop + over.offsetHeight / 2;
        const seen = canvas.getContext('2d').getImageData(
            (x - 4) * d, (y - 3) * d, 8 * d, 6 * d
        ).data;
        return [...seen].some((v, i) => i % 4 === 2 && v > 180 && seen[i - 2] < 60);
    }"""
    assert served.evaluate(inked.replace("SHARE", "0.02"))
    assert not served.evaluate(inked.replace("SHARE", "0.4"))
    chart.click(position={"x": box["width"] * 20 / 1258, "y": box["height"] / 2})
    expect(page.locator("#evidence")).to_contain_text("evidence 21.0 of 20.0")
    page.locator("#evidence").get_by_role("button", name="Close").click()
    y = box["y"] + box["height"] / 3
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, y, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="Whole range")).to_be_visible()
    page.get_by_role("button", name="Later").click()
    page.get_by_role("button", name="Whole range").click()
    expect(page.get_by_role("button", name="Whole range")).to_be_hidden()
    heard = re.compile(r"^Accuracy on labels .*: served 0\.500; baseline 0\.500")
    expect(page.get_by_role("img", name=heard)).to_have_count(1)


def test_narrow_and_dark(browser: Browser, server: ServedService, feeder: Feeder) -> None:
    """On a telephone nothing sticks out at the side; in the dark the ground is dark."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=2
    )
    page = context.new_page()
    page.goto(f"{server.url}/selfheal/")
    expect(page.locator("#state")).not_to_have_text("…", timeout=SECONDS)
    for tab in ("Drift", "Segments", "Labels", "Models", "Events", "Overview"):
        go_to(page, tab)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, tab
    expect(page.locator("#chart-lift canvas")).to_be_visible(timeout=SECONDS)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(v) for v in ground[4:-1].split(",")) < 64
    picture(page, "page-narrow")
    context.close()


def test_many_events(browser: Browser, server: ServedService, folder: Path) -> None:
    """Of thousands of events the page shows the newest at once, and older ones page by page when
    it is asked to, to the first."""
    flood(folder / "state", 2500)
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/events?" in r.url else None)
    page.goto(f"{server.url}/selfheal/#events")
    events, older = page.locator("#events li"), page.get_by_role("button", name="Show older")
    expect(events.first).to_contain_text("no. 2499", timeout=SECONDS)
    expect(events).to_have_count(50)
    assert len([url for url in asked if "after=" not in url]) == 1
    older.click()
    expect(events).to_have_count(250)
    expect(events.last).to_contain_text("no. 2250")
    while older.is_visible():
        shown = events.count()
        older.click()
        expect(events).not_to_have_count(shown, timeout=SECONDS)
    expect(events.last).to_contain_text("deployed")
    expect(events.first).to_contain_text("no. 2499")
    page.close()


def test_token(browser: Browser, home: Path, package: Package, tmp_path: Path) -> None:
    """Where tokens are asked for the page asks for one, again while it is not good, keeps it for
    its tab alone and in no cookie, and acts in its name."""
    token = "-".join(("anna", "0123456789abcdef"))
    with served(home, package, tmp_path, workers=1, operate_tokens=f"anna={token}") as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/selfheal")
        dialog, state = page.get_by_role("dialog"), page.locator("#state")
        for given, said in (("x" * 20, "token is needed"), (token, "token is unknown")):
            expect(dialog).to_contain_text(said, timeout=SECONDS)
            page.get_by_label("token", exact=True).fill(given)
            dialog.get_by_role("button", name="Continue").click()
        expect(state).to_have_text("HEALTHY", timeout=SECONDS)
        press(page, "Pause", "Pause")
        go_to(page, "Events")
        expect(page.locator("#events")).to_contain_text("paused, by anna", timeout=SECONDS)
        page.reload()
        expect(state).to_have_text("HEALTHY", timeout=SECONDS)
        assert context.cookies() == []
        other = context.new_page()
        other.goto(f"{server.url}/selfheal")
        expect(other.get_by_role("dialog")).to_contain_text("token is needed", timeout=SECONDS)
        context.close()


def test_server_gone(browser: Browser, home: Path, package: Package, tmp_path: Path) -> None:
    """When the service does not answer the page says so, and when it is back goes on."""
    with served(home, package, tmp_path, workers=1) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/selfheal/")
        expect(page.locator("#state")).to_have_text("HEALTHY", timeout=SECONDS)
        port = server.port
    expect(page.get_by_role("alert")).to_contain_text("does not answer", timeout=SECONDS)
    with served(home, package, tmp_path, workers=1, port=port):
        expect(page.get_by_role("alert")).to_be_hidden(timeout=SECONDS)
    page.close()
