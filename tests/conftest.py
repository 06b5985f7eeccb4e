"""Fixtures: a BENTOML_HOME of the tests' own, packaged models, and real servers."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest

os.environ["BENTOML_DO_NOT_TRACK"] = "True"
os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
os.environ.pop("SELFHEAL_CONFIG", None)

from worlds import package_article

from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.store import SqlStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from postgres import Postgres

pytest_plugins = ["not_run"]

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 60.0
"""Seconds that a test waits for something; long, since a busy machine is not a fault."""
BRISK = {"SELFHEAL_HEAL_SHARE": "1", "SELFHEAL_RUNNER_NICE": "0"}
"""Settings of a runner that neither rests nor stands back: a test waits for its next heal."""
LONGEST = ("test_container", "test_wheel", "test_tutorial")
"""Files on real servers that take longest by far."""
FAULTS = pytest.StashKey[dict[str, dict[str, Any]]]()
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("faults", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("same")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """Poll until the condition gives something true; fail with what was waited for.

    Polls become rarer, down to ten a second: a server that is asked all the time is slower.
    """
    deadline, pause = time.monotonic() + seconds, 0.01
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)
    pytest.fail(f"not within {seconds:.0f} s: {what}")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "how long faults are tried; `make test-faults` tries longer")
    group.addoption(
        "--kills", type=int, default=3, help="random instants of kill -9, of each store"
    )
    group.addoption("--cuts", type=int, default=2, help="power cuts")
    group.addoption("--away", type=float, default=4.0, help="seconds that a store is gone")
    group.addoption("--requests", type=int, default=200, help="requests of each endpoint")
    group.addoption("--soak", type=float, default=1.0, help="minutes of load")
    group.addoption("--record-faults", action="store_true",
                    help="write benchmarks/results/faults.json and docs/faults.md")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FAULTS] = {}
    if config.getoption("--record-faults") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--record-faults needs all tests in one process: leave out -n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, or one process waits for the other in the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, one worker runs the tests on real servers, one after the other."""
    if config.getvalue("dist") == "loadfile":
        from schedule import ServersTogether

        return ServersTogether(config, log)
    return None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep what the faults came to."""
    if session.config.getoption("--record-faults"):
        from readme import RESULTS, update

        found = {**session.config.stash[FAULTS], **_in_one_process(session.config)}
        file = RESULTS / "faults.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        results = {**before, **found, "command": "make test-faults", "machine": machine}
        file.write_text(json.dumps(results, indent=2) + "\n")
        update("faults")


def _in_one_process(config: pytest.Config) -> dict[str, dict[str, Any]]:
    """How the tests of faults went that need no server, by file."""
    found: dict[str, dict[str, Any]] = {}
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            file = report.nodeid.split("::")[0]
            if report.when == "call" and "faults" in report.keywords and (
                "slow" not in report.keywords or not file.startswith("tests/live/")
            ):  # fmt: skip
                row = found.setdefault(f"`{file}`", {})
                row[outcome] = row.get(outcome, 0) + 1
    examples = hypothesis.settings.default.max_examples
    return {name: {**row, "most_examples": examples} for name, row in found.items()}


@pytest.fixture
def record_fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps what one fault came to: its name and figures."""

    def record(name: str, **figures: Any) -> None:
        request.config.stash[FAULTS][name] = figures

    return record


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's BENTOML_HOME."""
    folder = tmp_path_factory.mktemp("bentoml")
    use_home(folder)
    return folder


@pytest.fixture(scope="session")
def package(home: Path) -> Package:
    """The article's packaged model."""
    return package_article(42)


@pytest.fixture
def serve(home: Path, package: Package, tmp_path: Path) -> Iterator[Callable[..., ServedService]]:
    """Start real servers, each with a state of its own; all are ended after the test."""
    running: list[ServedService] = []

    def start(**settings: Any) -> ServedService:
        env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(tmp_path / "state")} | BRISK
        env |= {k if k.startswith("OTEL") else f"SELFHEAL_{k.upper()}": str(v)
                for k, v in settings.items()}  # fmt: skip
        server = ServedService(
            "service:SelfHealing", home=home, log=tmp_path / "server.log", cwd=ROOT, env=env
        )
        running.append(server)
        return server

    yield start
    for server in running:
        server.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store on SQLite."""
    store = SqlStore(f"sqlite:///{tmp_path / 'a.db'}")
    store.create()
    yield store
    store.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The session's PostgreSQL."""
    from postgres import running

    with running(tmp_path_factory.mktemp("postgres") / "server") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of one new, empty store after the other."""
    if request.param == "sqlite":
        number = count(1)
        return lambda: f"sqlite:///{tmp_path / f'state{next(number)}' / 'selfheal.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """A client without a base URL."""
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window; a test that needs one is skipped where none is installed."""
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed: `apt-get install chromium`")
    from playwright.sync_api import sync_playwright  # most tests need no browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
