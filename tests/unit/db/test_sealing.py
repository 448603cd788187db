"""What is sealed is read by nobody without the key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from graticule.db.sealing import NotSealed, Seal, key_of_home

KEY = bytes(range(32))


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x00\x00secret", b"s" * 1000])
def test_what_was_sealed_is_opened(content: bytes) -> None:
    assert Seal(KEY).open(Seal(KEY).seal(content)) == content


def test_nothing_of_the_content_is_seen_and_no_two_are_alike() -> None:
    first, second = Seal(KEY).seal(b"secret" * 20), Seal(KEY).seal(b"secret" * 20)

    assert b"secret" not in first
    assert first != second


@pytest.mark.parametrize("place", [0, 1, 17, 20, -33, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    sealed = bytearray(Seal(KEY).seal(b"secret"))
    sealed[place] ^= 1

    with pytest.raises(NotSealed):
        Seal(KEY).open(bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"short", bytes(49), bytes(80)])
def test_what_was_never_sealed_is_refused(sealed: bytes) -> None:
    with pytest.raises(NotSealed):
        Seal(KEY).open(sealed)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(NotSealed):
        Seal(bytes(32)).open(Seal(KEY).seal(b"secret"))


def test_the_key_of_a_home_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"

    key = key_of_home(path)

    assert len(key) == 32
    assert key_of_home(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
