"""Prediction ids: whoever has the secret knows what it issued, and nothing else."""

from __future__ import annotations

import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_selfheal.core.ids import TOKEN_CHARS, IdSigner, ids_of, is_logged, issued_at
from bento_selfheal.store import SqlStore

SIGNER = IdSigner("5e" * 32)
KEY, TOKEN = SIGNER.issue(3)
IDS = ids_of(TOKEN, 3)
ALPHABET = string.ascii_letters + string.digits + "-_+/=. é٣\x00"


@given(rows=st.integers(1, 300))
def test_round_trip(rows: int) -> None:
    """Every id of a request reads back as the request's key and the row's number."""
    key, token = SIGNER.issue(rows)
    ids = ids_of(token, rows)
    assert [SIGNER.read(i) for i in ids] == [(key, row) for row in range(rows)]


@given(place=st.integers(0, TOKEN_CHARS - 1), char=st.sampled_from(ALPHABET))
def test_tampered_character(place: int, char: str) -> None:
    """An id with any one character changed is unknown."""
    tampered = IDS[1][:place] + char + IDS[1][place + 1 :]
    assert (SIGNER.read(tampered) is None) == (tampered != IDS[1])


def test_one_spelling() -> None:
    """The other base64 alphabet's spelling of a good id is unknown too."""
    ids = (f"{SIGNER.issue(1)[1]}.0" for _ in range(1000))
    spelt = next(i for i in ids if "-" in i and "_" in i)
    assert SIGNER.read(spelt) is not None
    assert SIGNER.read(spelt.replace("-", "+")) is None
    assert SIGNER.read(spelt.replace("_", "/")) is None


@pytest.mark.parametrize("row", ["3", "4", "16777216", "999999999", "-1", "+1", "01", "1.0", "1 ",
                                 "", "x", "٣", "²"])  # fmt: skip
def test_rows_beyond(row: str) -> None:
    """A row that the request did not have, or that is no plain number, is unknown."""
    token = IDS[0].partition(".")[0]
    assert SIGNER.read(f"{token}.{row}") is None


@given(st.text(ALPHABET))
def test_any_text(text: str) -> None:
    """Any text from outside is answered, never raised on."""
    assert SIGNER.read(text) is None


def test_key_tells_age_and_log() -> None:
    """A key says when its request was answered and whether it was meant for the log; keys of one
    moment differ."""
    signer, before = IdSigner("ab" * 32), time.time()
    keys = [signer.issue(1)[0] for _ in range(100)]
    left_out, _ = signer.issue(1, logged=False)
    assert all(before - 0.001 <= issued_at(k) <= time.time() for k in [*keys, left_out])
    assert all(is_logged(k) for k in keys)
    assert not is_logged(left_out)
    assert len(set(keys)) == 100


def test_other_secret() -> None:
    """An id of another store is unknown."""
    assert IdSigner("5f" * 32).read(IDS[0]) is None


def test_not_guessable() -> None:
    """Two requests never share a key."""
    assert len({SIGNER.issue(1)[0] for _ in range(1000)}) == 1000


def test_survive_restart(tmp_path: Path) -> None:
    """An id issued before a restart is known after it, and by every other process."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    secrets = []
    for _ in range(2):
        store = SqlStore(url)
        store.create()
        secrets.append(store.meta("secret"))
        store.close()
    assert secrets[0] == secrets[1]
    assert secrets[0] is not None
    key, token = IdSigner(secrets[0]).issue(1)
    ids = ids_of(token, 1)
    assert IdSigner(secrets[1]).read(ids[0]) == (key, 0)


def test_stores_have_their_own_secret(tmp_path: Path) -> None:
    """Two stores sign with different secrets, so that one's ids are unknown to the other."""
    found = set()
    for name in ("a", "b"):
        store = SqlStore(f"sqlite:///{tmp_path / name}.db")
        store.create()
        found.add(store.meta("secret"))
        store.close()
    assert len(found) == 2
