"""Tokens: who has which role, how they change, and that nothing ever shows one."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from bento_selfheal.config.settings import Settings, load_settings
from bento_selfheal.errors import SettingsError
from bento_selfheal.serving.http import auth as access
from bento_selfheal.serving.http.auth import Role, Tokens, check_address

ANNA, DESK, WEB = (f"{who}-0123456789abcdef" for who in ("anna", "desk", "web"))


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of tokens that is looked at for every request."""
    monkeypatch.setattr(access, "LOOK_SECONDS", -1.0)
    path = tmp_path / "tokens.toml"
    path.write_text(f'[operate]\nanna = "{ANNA}"\n[feedback]\ndesk = "{DESK}"\nanna = "{ANNA}"\n')
    return path


def roles(tokens: Tokens, token: str) -> set[Role]:
    caller = tokens.find(bearer(token))
    return set() if caller is None else set(caller.roles)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tokens a role; one that stands under several roles has all of them."""
    monkeypatch.setenv("SELFHEAL_PREDICT_TOKENS", f"web={WEB}, desk = {DESK}")
    monkeypatch.setenv("SELFHEAL_FEEDBACK_TOKENS", f"desk={DESK}")
    tokens = Tokens(load_settings())
    assert bool(tokens)
    assert roles(tokens, WEB) == {Role.PREDICT}
    assert roles(tokens, DESK) == {Role.PREDICT, Role.FEEDBACK}
    caller = tokens.find(bearer(DESK))
    assert caller is not None
    assert caller.name == "desk"


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", WEB.encode(), b"Basic " + WEB.encode(), bearer(WEB[:-1]),
     bearer(WEB + "x"), bearer(WEB.upper())],
)  # fmt: skip
def test_nobody(header: bytes) -> None:
    """Nothing but the whole token behind the right word is anybody's."""
    assert Tokens(Settings(predict_tokens=f"web={WEB}")).find(header) is None


def test_none() -> None:
    """Without any token none is asked for."""
    assert not Tokens(Settings())


def test_rotation(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An edit of the file is in force at once: new tokens hold, old ones do not."""
    caplog.set_level(logging.INFO)
    tokens = Tokens(Settings(tokens_file=file, predict_tokens=f"web={WEB}"))
    assert roles(tokens, ANNA) == {Role.OPERATE, Role.FEEDBACK}
    fresh = "fresh-0123456789abcdef"
    file.write_text(f'[operate]\nanna = "{fresh}"\n')
    assert (roles(tokens, ANNA), roles(tokens, DESK)) == (set(), set())
    assert roles(tokens, fresh) == {Role.OPERATE}
    assert roles(tokens, WEB) == {Role.PREDICT}
    assert "anna (operate)" in caplog.text
    assert fresh not in caplog.text


@pytest.mark.parametrize(
    "edit",
    ["", "[operate", "[operate]\nanna = 5\n", "gone", f"[operate]\nanna = {'9' * 5000}\n",
     f"x = {'[' * 20_000}\n"],
)  # fmt: skip
def test_bad_edit(file: Path, caplog: pytest.LogCaptureFixture, edit: str) -> None:
    """A file that is emptied, broken or gone lets nobody in and shuts nobody out; said once."""
    tokens = Tokens(Settings(tokens_file=file))
    file.unlink() if edit == "gone" else file.write_text(edit)
    for _ in range(3):
        assert roles(tokens, ANNA) == {Role.OPERATE, Role.FEEDBACK}
        assert roles(tokens, WEB) == set()
    assert caplog.text.count("still in force") == 1
    assert str(file) in caplog.text
    file.write_text(f'[predict]\nweb = "{WEB}"\n')
    assert (roles(tokens, ANNA), roles(tokens, WEB)) == (set(), {Role.PREDICT})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"predict_tokens": WEB}, "predict_tokens"),
        ({"operate_tokens": "anna=short"}, "'anna'"),
        ({"operate_tokens": f"run ner={ANNA}"}, "'run ner'"),
        ({"operate_tokens": f"runner={ANNA}"}, "'runner'"),
        ({"operate_tokens": f"{'a' * 21}={ANNA}"}, "cannot be the name"),
        ({"tokens_file": Path("nowhere.toml")}, "nowhere.toml"),
    ],
)
def test_malformed(settings: dict[str, Any], named: str) -> None:
    """What cannot be a token is refused at the start, by its name; the token is not shown."""
    with pytest.raises(SettingsError, match="tokens") as refused:
        Tokens(Settings(**settings))
    assert named in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (ANNA, WEB, "short"))


@pytest.mark.parametrize(
    "text",
    [f'[operat]\nanna = "{ANNA}"\n', f'operate = "{ANNA}"\n', f'[operate]\nanna = "{ANNA},"\n',
     f'[operate]\n{ANNA} = "anna"\n', f"[operate]\nanna = {ANNA}\n",
     f'[operate.anna]\ntoken = "{ANNA}"\n', ""],
)  # fmt: skip
def test_malformed_file(file: Path, text: str) -> None:
    """A file that names no role, or holds what is no token, is refused without showing one."""
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"tokens\.toml") as refused:
        Tokens(Settings(tokens_file=file))
    assert ANNA not in str(refused.value)


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the settings as text nor an error about them shows a token or the key."""
    key = "key-0123456789abcdef0123456789abcdef"
    shown = repr(Settings(predict_tokens=f"web={WEB}", signing_key=key))
    assert (WEB in shown, key in shown) == (False, False)
    monkeypatch.chdir(tmp_path)
    for text in (
        f'predict_tokens = {{web = "{WEB}"}}\n', 'signing_key = "key-too-short"\n',
        f'feedback = {{desk = "{WEB}"}}\n', f'api_token = "{WEB}"\n', f'Secrets = ["{WEB}"]\n',
        f'workers = {{token = "{WEB}"}}\n', f'tuning = {{my_token = "{WEB}"}}\n',
    ):  # fmt: skip
        (tmp_path / "selfheal.toml").write_text(text)
        with pytest.raises(SettingsError) as refused:
            load_settings()
        assert text.split()[0] in str(refused.value)
        assert (WEB in str(refused.value), "key-too-short" in str(refused.value)) == (False, False)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "10.0.0.7", "192.168.1.2", "2001:db8::1"],  # noqa: S104
)
def test_beyond_loopback(host: str) -> None:
    """Without tokens no address beyond this machine is listened to, unless that is asked for."""
    for here in ("127.0.0.1", "127.0.0.2", "::1"):
        check_address(here, Settings())
    with pytest.raises(SettingsError, match=f"{host}.*SELFHEAL_OPEN_TO_ALL"):
        check_address(host, Settings())
    check_address(host, Settings(open_to_all=True))
    check_address(host, Settings(operate_tokens=f"anna={ANNA}"))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SELFHEAL_"):
            monkeypatch.delenv(name)
