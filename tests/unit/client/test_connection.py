"""How a client reaches its service: what cannot be an address or a token is refused at once."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from bento_selfheal.client.async_client import AsyncClient
from bento_selfheal.client.client import Client
from bento_selfheal.client.connection import TOKEN_VARIABLE, headers_of
from bento_selfheal.errors import SettingsError

TOKEN = "token-0123456789abcdef"  # noqa: S105 - of no service


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "url",
    ["http://[", "http://x:abc", "http://xn--a", "http://" + "a" * 64 + ".com", "http://a..b",
     "http://\ud800", "http://\x00", "http://localhost/" + "a" * 70_000, "ftp://x", "", "x" * 9999],
)  # fmt: skip
def test_no_url(kind: Any, url: str) -> None:
    """What httpx or the socket could not take is a setting that is wrong, said in a short line."""
    with pytest.raises(SettingsError, match=r"^url: ") as refused:
        kind(url)
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


def test_a_line_break_behind_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """White space around a token is none of it; of white space alone is no token."""
    monkeypatch.setenv(TOKEN_VARIABLE, f" {TOKEN}\r\n")
    assert headers_of(None, None) == {"Authorization": f"Bearer {TOKEN}"}
    monkeypatch.setenv(TOKEN_VARIABLE, "\n")
    assert headers_of(None, None) == {}


@pytest.mark.parametrize("odd", ["é", "\n", "\0", "\ud800", " "])
def test_a_token_that_no_header_carries(odd: str) -> None:
    """It is refused without being shown."""
    with pytest.raises(SettingsError, match=r"^token: .*ASCII") as refused:
        Client("http://localhost", token=f"{TOKEN}{odd}x")
    assert TOKEN not in str(refused.value)


def test_both_clients_offer_the_same() -> None:
    """What one can ask, the other can, with the same arguments."""

    def offered(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {n: list(inspect.signature(f).parameters) for n, f in functions if n[0] != "_"}

    assert offered(Client) == offered(AsyncClient)
