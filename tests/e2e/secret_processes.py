"""A process with inputs that are secrets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from graticule import process

Key = Annotated[str, Field(json_schema_extra={"writeOnly": True})]


Pin = Annotated[int, Field(json_schema_extra={"format": "password"})]


@process
def login(user: str, password: SecretStr, keys: list[Key] | None = None, pin: Pin = 0) -> int:
    """Tell how long the secrets are."""
    return len(user) + len(password.get_secret_value()) + sum(map(len, keys or ())) + pin


@process
def leak() -> str:
    """Fail with what nobody is to know."""
    print("password=printed-by-itself")
    try:
        _fetch()
    except OSError as error:
        raise ValueError("cannot log in with password=hunter2") from error


def _fetch() -> None:
    raise OSError("GET https://ada:hunter2@example.org/x?X-Amz-Signature=hunter2 failed")
