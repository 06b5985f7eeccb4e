"""Settings: what is set holds, and what is wrong is named before anything runs."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from bento_selfheal.config.groups import Tuning
from bento_selfheal.config.settings import Settings, load_model_settings, load_settings
from bento_selfheal.config.thresholds import ThresholdFile, Thresholds
from bento_selfheal.config.thresholds import _parse as parse_thresholds
from bento_selfheal.errors import SettingsError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of the developer's own."""
    for name in list(os.environ):
        if name.startswith("SELFHEAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """`unreported` is JSON in a variable and a table in the file; what is wrong in it is named."""
    monkeypatch.setenv("SELFHEAL_UNREPORTED", '{"class": "ok", "after": "90m"}')
    found = load_settings()
    assert found.unreported is not None
    assert (found.unreported.label, found.unreported.seconds) == ("ok", 5400.0)
    assert Settings.model_validate(found.model_dump()) == found
    assert found.by_name()["unreported"] == {"class": "ok", "after": "90m"}
    for wrong, message in (
        ('{"class": 0, "after": "30"}', "unreported.after: .*a number and a unit"),
        ('{"class": true, "after": "30d"}', "unreported.class: .*a number or a text"),
        ('{"class": 0}', "unreported.after: Field required"),
        ('{"class": 0, "after": "400d"}', "feedback_days: .*less than unreported.after"),
    ):
        monkeypatch.setenv("SELFHEAL_UNREPORTED", wrong)
        with pytest.raises(SettingsError, match=message):
            load_settings()
    monkeypatch.delenv("SELFHEAL_UNREPORTED")
    Path("selfheal.toml").write_text('unreported = { class = 0, after = "7d" }\n')
    assert load_settings().by_name()["unreported"] == {"class": 0, "after": "7d"}


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`SELFHEAL_<NAME>` sets a setting, as its own type."""
    monkeypatch.setenv("SELFHEAL_WORKERS", "3")
    monkeypatch.setenv("SELFHEAL_MODE", "observe")
    monkeypatch.setenv("SELFHEAL_HEAL_LR", "0.01")
    monkeypatch.setenv("SELFHEAL_STATE_DIR", "/var/lib/x")
    found = load_settings()
    assert (found.workers, found.mode) == (3, "observe")
    assert found.state_dir == Path("/var/lib/x")
    assert found.tuning == Tuning(heal_lr=0.01)


def test_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`selfheal.toml` here, or the file that SELFHEAL_CONFIG names, sets what no variable does."""
    (tmp_path / "selfheal.toml").write_text('batch_size = 40\nmode = "observe"\n')
    monkeypatch.setenv("SELFHEAL_BATCH_SIZE", "60")
    found = load_settings()
    assert (found.tuning.batch_size, found.mode) == (60, "observe")
    (tmp_path / "other.toml").write_text("workers = 5\n")
    monkeypatch.setenv("SELFHEAL_CONFIG", str(tmp_path / "other.toml"))
    found = load_settings()
    assert (found.workers, found.mode) == (5, "heal")


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that no setting has is refused by name: a slip must not pass in silence."""
    monkeypatch.setenv("SELFHEAL_WROKERS", "3")
    with pytest.raises(SettingsError, match="SELFHEAL_WROKERS"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "0"), ("workers", "two"), ("mode", "panic"), ("fidi_threshold", "-1"),
        ("conflict_thr", "1.5"), ("gate_alpha", "0"), ("gate_alpha", "1"), ("snapshots_kept", "3"),
        ("batch_size", "0"), ("seed", "-1"), ("recipe", "magic"), ("heal_lr", "0"),
    ],
)  # fmt: skip
def test_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A value out of range is refused with the setting's name and the value."""
    monkeypatch.setenv(f"SELFHEAL_{name.upper()}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert name in str(refused.value)
    assert value in str(refused.value)


def test_labels_outlive_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that go before their predictions would count twice when they are sent again."""
    monkeypatch.setenv("SELFHEAL_LOG_DAYS", "90")
    monkeypatch.setenv("SELFHEAL_FEEDBACK_DAYS", "60")
    with pytest.raises(SettingsError, match=r"feedback_days: .*log_days.*60"):
        load_settings()


def test_bentoml_shows_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bentoml serve`, which imports the service, shows a wrong setting as one line."""
    monkeypatch.setenv("SELFHEAL_DETECTORS", "bogus")

    @click.command()
    def serve() -> None:
        load_settings()

    shown = CliRunner().invoke(serve)
    assert shown.exit_code == 1
    assert shown.output == (
        "Error: detectors.0: Input should be 'adwin', 'kswin' or 'page-hinkley' (got 'bogus')\n"
    )


def test_settings_that_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with two settings at once is said without one's name or value."""
    monkeypatch.setenv("SELFHEAL_REVIEW", "queue")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith("review='queue' needs review_budget: how many rows people")
    assert "table" not in str(refused.value)


def test_wrong_file(tmp_path: Path) -> None:
    """An unknown name in the file is refused by name."""
    (tmp_path / "selfheal.toml").write_text("wrokers = 2\n")
    with pytest.raises(SettingsError, match="wrokers"):
        load_settings()


def test_broken_file(tmp_path: Path) -> None:
    """A file that is no TOML is refused by name."""
    (tmp_path / "selfheal.toml").write_text("workers = = 2\n")
    with pytest.raises(SettingsError, match=r"selfheal\.toml"):
        load_settings()


def test_missing_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that SELFHEAL_CONFIG names and that is not there is refused by name."""
    monkeypatch.setenv("SELFHEAL_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_settings()


@pytest.mark.parametrize("model", [Tuning, Settings, Thresholds])
def test_described(model: type[Tuning]) -> None:
    """Every setting says what it means."""
    assert [n for n, f in model.model_fields.items() if not f.description] == []


def test_every_parameter_of_the_article() -> None:
    """The article's parameters are settings under the article's own names."""
    article = {"heal_steps", "heal_lr", "fidi_threshold", "fidi_window", "conflict_thr",
               "conflict_min", "alpha", "lambda_lag", "health_window"}  # fmt: skip
    assert article <= Tuning.model_fields.keys()
    assert {"rollback_f1_drop", "rollback_acc_drop"} <= set(Thresholds.model_fields)


def test_operators_see_few_settings() -> None:
    """At most 60 settings are for operators; what is for experts has names of its own."""
    operators = Settings.model_fields.keys() - {"tuning"}
    assert len(operators) <= 60
    assert not operators & Tuning.model_fields.keys()


# -- the group for experts -------------------------------------------------------------------


def test_tuning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`SELFHEAL_TUNING__NAME` and a line below `[tuning]` set an expert's setting; the variable
    wins, and arguments win over both."""
    (tmp_path / "selfheal.toml").write_text("[tuning]\nbatch_size = 40\nheal_rows = 10\n")
    monkeypatch.setenv("SELFHEAL_TUNING__BATCH_SIZE", "60")
    assert load_settings().tuning == Tuning(batch_size=60, heal_rows=10)
    found = Settings(tuning={"batch_size": 70}).tuning
    assert (found.batch_size, found.heal_rows) == (70, 10)


def test_old_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The names of earlier releases mean the same, in variables, files, arguments and copies, and
    a variable wins over the file under whichever name."""
    (tmp_path / "selfheal.toml").write_text("batch_size = 40\nheal_rows = 10\nalpha = 0.1\n")
    monkeypatch.setenv("SELFHEAL_TUNING__BATCH_SIZE", "60")
    monkeypatch.setenv("SELFHEAL_HEAL_ROWS", "11")
    found = load_settings()
    assert found.tuning == Tuning(batch_size=60, heal_rows=11, alpha=0.1)
    assert Settings(batch_size=70).tuning.batch_size == 70
    copy = found.model_copy(update={"heal_rows": 12, "mode": "observe"})
    assert (copy.tuning.heal_rows, copy.tuning.batch_size, copy.mode) == (12, 60, "observe")
    again = Settings.model_validate({**found.model_dump(), "alpha": "0.2"})
    assert again.tuning == Tuning(batch_size=60, heal_rows=11, alpha=0.2)
    assert found.by_name()["alpha"] == 0.1
    assert "tuning" not in found.by_name()
    with pytest.raises(SettingsError, match="wrokers"):
        found.model_copy(update={"wrokers": 2})


@pytest.mark.parametrize("where", ["variable", "file"])
def test_set_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    """A setting that is given under its old and its new name is refused: which one is meant?"""
    if where == "variable":
        monkeypatch.setenv("SELFHEAL_ALPHA", "0.2")
        monkeypatch.setenv("SELFHEAL_TUNING__ALPHA", "0.3")
    else:
        (tmp_path / "selfheal.toml").write_text("alpha = 0.2\n[tuning]\nalpha = 0.3\n")
    with pytest.raises(SettingsError, match=r"(?i)tuning\.alpha: set twice.*alpha.*alpha"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("TUNING__WROKERS", "3"), ("TUNING__ALPHA", "2"), ("TUNING", "no JSON"), ("WORKERS__X", "1")],
)
def test_wrong_tuning(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """An unknown or wrong expert's setting is refused by name."""
    monkeypatch.setenv(f"SELFHEAL_{name}", value)
    with pytest.raises(SettingsError, match="(?i)" + name.replace("__", "(__|.)")):
        load_settings()


# -- what no setting may be ------------------------------------------------------------------


def numbers() -> list[str]:
    """Every setting that is a number with a fraction."""
    return [
        name
        for name, field in {**Settings.model_fields, **Tuning.model_fields}.items()
        if field.annotation is float
    ]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300"])
@pytest.mark.parametrize("name", numbers())
def test_numbers_are_finite(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Infinite and absurd numbers are refused at the start, with the setting and the value."""
    monkeypatch.setenv(f"SELFHEAL_{name.upper()}", value)
    with pytest.raises(SettingsError, match=rf"{name}: .*\(got '{value}'\)"):
        load_settings()


@pytest.mark.parametrize("name", ["workers", "max_rows", "lease_seconds", "snapshots_kept"])
def test_absurd_counts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A count that no machine could hold is refused as well."""
    monkeypatch.setenv(f"SELFHEAL_{name.upper()}", "9" * 20)
    with pytest.raises(SettingsError, match=rf"{name}: .*999"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("", ()), ("adwin", ("adwin",)), ("adwin,kswin", ("adwin", "kswin")),
        (" adwin , page-hinkley, ", ("adwin", "page-hinkley")), ('["kswin"]', ("kswin",)),
    ],
)  # fmt: skip
def test_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, listed: tuple[str, ...]
) -> None:
    """A list is written with commas or as JSON, in a variable or in the file."""
    monkeypatch.setenv("SELFHEAL_DETECTORS", text)
    assert load_settings().detectors == listed
    monkeypatch.delenv("SELFHEAL_DETECTORS")
    (tmp_path / "selfheal.toml").write_text(f"detectors = {text!r}\n")
    assert load_settings().detectors == listed
    (tmp_path / "selfheal.toml").write_text(f"detectors = {list(listed)!r}\n")
    assert load_settings().detectors == listed


@pytest.mark.parametrize(
    ("text", "said"), [("adwin,bogus", "'bogus'"), ("[adwin", "neither a list with commas nor")]
)
def test_wrong_list(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    """A wrong item of a list, or half a list, is refused in one clear line."""
    monkeypatch.setenv("SELFHEAL_DETECTORS", text)
    with pytest.raises(SettingsError, match=f"^detectors.*{said}") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


# -- threshold_config.json -------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> ThresholdFile:
    made = ThresholdFile(tmp_path / "new" / "threshold_config.json")
    made.refresh()
    return made


def test_thresholds_are_written(file: ThresholdFile) -> None:
    """A missing file is written with the defaults, for people to edit; an existing one is not."""
    assert json.loads(file.path.read_text()) == Thresholds().model_dump()
    file.path.write_text('{"rollback_f1_drop": 0.5}')
    other = ThresholdFile(file.path)
    assert other.refresh()
    assert other.current == Thresholds(rollback_f1_drop=0.5)


def test_thresholds_pick_up(file: ThresholdFile) -> None:
    """An edit is picked up at the next look, once; an edit without a change is none."""
    file.path.write_text('{"rollback_f1_drop": 0.031, "rollback_acc_drop": 0.2}')
    assert file.refresh() is True
    assert file.current == Thresholds(rollback_f1_drop=0.031, rollback_acc_drop=0.2)
    assert file.refresh() is False
    file.path.write_text('{"rollback_acc_drop": 0.20, "rollback_f1_drop": 0.0310}')
    assert file.refresh() is False


BAD = [
    ('{"rollback_f1_drop": 2}', "rollback_f1_drop"),
    ('{"rollback_f1_drop": -0.1}', "rollback_f1_drop"),
    ('{"rollback_f1_drop": "much"}', "rollback_f1_drop"),
    ('{"rollback_f1_drop": NaN}', "rollback_f1_drop"),
    ('{"miss_cost": Infinity}', "miss_cost"),
    ('{"miss_cost": 1e999}', "miss_cost"),
    ('{"alarm_cost": NaN}', "alarm_cost"),
    ('{"capacity": Infinity}', "capacity"),
    ('{"miss_cost": 1e300}', "miss_cost"),
    ('{"rollback_f1": 0.1}', "rollback_f1"),
    ('{"rollback_f1_drop": 0.0', "Invalid JSON"),
    ("", "Invalid JSON"),
    ("[]", ""),
    ("\xff", ""),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_bad_edit(file: ThresholdFile, caplog: pytest.LogCaptureFixture, text: str,
                  said: str) -> None:  # fmt: skip
    """A bad edit, or a half-written file, is refused with one clear log line; the values in
    force stay, and the corrected file is picked up."""
    file.path.write_text('{"rollback_f1_drop": 0.04}')
    file.refresh()
    file.path.write_bytes(text.encode("latin-1"))
    with caplog.at_level(logging.ERROR):
        assert file.refresh() is False
        assert file.refresh() is False
    assert file.current == Thresholds(rollback_f1_drop=0.04)
    [line] = [r.getMessage() for r in caplog.records]
    assert str(file.path) in line
    assert said in line
    assert "0.04" in line
    file.path.write_text('{"rollback_f1_drop": 0.055}')
    assert file.refresh() is True
    assert file.current == Thresholds(rollback_f1_drop=0.055)


def test_lost_file(file: ThresholdFile, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is gone, or in whose place a folder stands, changes nothing."""
    file.path.write_text('{"rollback_f1_drop": 0.04}')
    file.refresh()
    file.path.unlink()
    assert file.refresh() is False
    file.path.mkdir()
    with caplog.at_level(logging.ERROR):
        assert file.refresh() is False
    assert str(file.path) in caplog.text
    assert file.current == Thresholds(rollback_f1_drop=0.04)


@pytest.mark.parametrize(
    "content",
    [b"workers = 2 # \xff\n", b"x = " + b"[" * 20_000, b"workers = " + b"9" * 5000],
)
def test_an_absurd_file(tmp_path: Path, content: bytes) -> None:
    """A file that is no UTF-8, too deep or beyond any number is refused in one line by its name."""
    (tmp_path / "selfheal.toml").write_bytes(content)
    with pytest.raises(click.ClickException, match=r"^selfheal\.toml: ") as refused:
        load_settings()
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", ["true", "0x" + "f" * 10_000, "[" + "1, " * 1000 + "]"])
@pytest.mark.parametrize("name", ["workers", "log_days", "seed", "tuning.batch_size"])
def test_no_number(tmp_path: Path, name: str, value: str) -> None:
    """What is no number, or an absurd one, is refused where a number belongs, and not quoted."""
    (tmp_path / "selfheal.toml").write_text(f"{name} = {value}\n")
    with pytest.raises(SettingsError, match=rf"^{name}: ") as refused:
        load_settings()
    assert len(str(refused.value)) < 300


def test_many_unknown_thresholds() -> None:
    """A threshold file full of slips is not quoted whole either, and true is no threshold."""
    wrong = json.dumps({f"name-{n}": "x" * 1000 for n in range(1000)})
    for text in (wrong, wrong[:-1], '{"capacity": true}', '{"miss_cost": true}'):
        with pytest.raises(SettingsError) as refused:
            parse_thresholds(text.encode())
        assert len(str(refused.value)) < 1500


@pytest.mark.parametrize(
    ("given", "says"),
    [({"review": "queue"}, "needs review_budget"),
     ({"review": "queue", "review_budget": 9, "review_explored": 0.1}, "review_explored=0.1"),
     ({"review_budget": 9}, "review='all'"),
     ({"review": "queue", "review_budget": 0}, "review_budget")],
    ids=["no budget", "explored", "all", "zero"],
)  # fmt: skip
def test_a_review_queue_has_a_budget(given: dict[str, object], says: str) -> None:
    """What of the review settings does not go together is refused by name."""
    with pytest.raises(ValidationError, match=says):
        Settings.model_validate(given)
    assert Settings(review="flagged", review_budget=9).review_budget == 9


def test_settings_of_several_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each model has the common settings, what its table says, and before that its variables."""
    (tmp_path / "selfheal.toml").write_text(
        'models = ["fraud", "credit-risk"]\nmode = "observe"\nstate_dir = "state"\n'
        "[fraud]\ngate_alpha = 0.01\nheal_lr = 0.2\n"
        '[credit-risk]\nmodel = "credit:7"\n[credit-risk.tuning]\nheal_lr = 0.3\n'
    )
    monkeypatch.setenv("SELFHEAL_CREDIT_RISK__MODE", "heal")
    each = load_settings().each
    assert {name: own.name for name, own in each.items()} == {n: n for n in each}
    fraud, credit = each["fraud"], each["credit-risk"]
    assert (fraud.model, fraud.mode, fraud.gate_alpha) == ("fraud:latest", "observe", 0.01)
    assert (credit.model, credit.mode, credit.gate_alpha) == ("credit:7", "heal", 0.05)
    assert (fraud.tuning.heal_lr, credit.tuning.heal_lr) == (0.2, 0.3)
    assert {fraud.state_dir, credit.state_dir} == {Path("state/fraud"), Path("state/credit-risk")}
    monkeypatch.setenv("SELFHEAL_MODELS", "fraud")
    monkeypatch.delenv("SELFHEAL_CREDIT_RISK__MODE")
    with pytest.raises(SettingsError, match="credit-risk"):  # its table is about nothing
        load_settings()


def test_one_of_several_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is about the model that SELFHEAL_MODEL names, and asks for one without it."""
    monkeypatch.setenv("SELFHEAL_MODELS", "fraud, churn")
    monkeypatch.setenv("SELFHEAL_CHURN__GATE_ALPHA", "0.02")
    with pytest.raises(SettingsError, match="fraud, churn; say which one"):
        load_model_settings()
    monkeypatch.setenv("SELFHEAL_MODEL", "churn")
    assert load_model_settings().gate_alpha == 0.02
    assert load_model_settings().models == ()
    monkeypatch.setenv("SELFHEAL_MODEL", "other")
    with pytest.raises(SettingsError, match="'other' is none of the models fraud, churn"):
        load_settings()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MODELS": "fraud,Churn"}, "models: 'Churn' is no name"),
        ({"MODELS": "fraud,status"}, "models: 'status' is a path or a setting"),
        ({"MODELS": "fraud,workers"}, "models: 'workers' is a path or a setting"),
        ({"MODELS": "a-b,a.b"}, "models: two of the names are the same"),
        ({"MODELS": "fraud", "FRAUD__WORKERS": "3"}, "fraud.workers: a setting of the whole"),
        ({"MODELS": "fraud", "FRAUD__GATE_ALPHA": "7"}, "fraud: gate_alpha.*got '7'"),
        ({"MODELS": "fraud", "FRAUD__NO": "7"}, "unknown.*SELFHEAL_FRAUD__NO"),
        ({"MODELS": "fraud", "STORE_URL": "sqlite:///a.db"}, "SELFHEAL_FRAUD__STORE_URL"),
        (
            {"MODELS": "a,b", "A__STATE_DIR": "x", "B__STATE_DIR": "x"},
            "a and b have the same store",
        ),
    ],
    ids=["case", "path", "setting", "alike", "shared", "value", "unknown", "store", "same"],
)
def test_bad_settings_of_several_models(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """What is wrong with the models is one error that names it."""
    for name, value in variables.items():
        monkeypatch.setenv(f"SELFHEAL_{name}", value)
    with pytest.raises(SettingsError, match=said):
        load_settings()


# -- a share first ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shares"),
    [("10", (10,)), ("5, 50,100", (5, 50)), ("0.5", (0.5,)), ("", ()), ("[1, 99]", (1, 99))],
    ids=["one", "to the end", "small", "none", "json"],
)
def test_canary(monkeypatch: pytest.MonkeyPatch, given: str, shares: tuple[float, ...]) -> None:
    """Growing percentages, with or without the 100 that they come to in any case."""
    monkeypatch.setenv("SELFHEAL_CANARY", given)
    assert load_settings().canary == shares


def test_canary_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A number or a list."""
    for text, shares in (("canary = 20", (20,)), ("canary = [2, 20]", (2, 20))):
        (tmp_path / "selfheal.toml").write_text(text)
        monkeypatch.setenv("SELFHEAL_CONFIG", str(tmp_path / "selfheal.toml"))
        assert load_settings().canary == shares


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CANARY": "50,10"}, r"canary: growing percentages.*got .*50,10"),
        ({"CANARY": "0,50"}, r"canary: growing percentages are needed, above 0"),
        ({"CANARY": "150"}, r"canary: growing percentages.*up to 100"),
        ({"CANARY": "100"}, r"canary: 100 alone is all at once"),
        ({"CANARY": "nan"}, r"canary: growing percentages"),
        ({"CANARY": "ten"}, r"canary.*valid number.*got 'ten'"),
        ({"CANARY": "10", "GATE": "always"}, r"canary: gate=always promotes every heal at once"),
    ],
    ids=["falling", "nothing", "too much", "all", "nan", "words", "no gate"],
)
def test_senseless_canaries(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """What makes no sense is refused by its name, with the value."""
    for name, value in variables.items():
        monkeypatch.setenv(f"SELFHEAL_{name}", value)
    with pytest.raises(SettingsError, match=said):
        load_settings()
