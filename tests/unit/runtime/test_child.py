"""What a job process says of foreign code, whatever that raises."""

from __future__ import annotations

import msgspec
import pytest

from graticule.errors import Fault, InvalidInputs
from graticule.runtime.child import failure_of


class Mute(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("not even that")


class Void(Exception):
    """An exception whose text is none."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # noqa: PLE0307 - as foreign code does


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ValueError("a\ud800b"), "the process failed with ValueError: a?b"),
        (Mute(), "the process failed with Mute"),
        (Void(), "the process failed with Void"),
        (SystemExit("\ud800"), "the process ended itself with exit('\\ud800') instead of returning its outputs"),
    ],
)
def test_every_exception_has_a_sentence_that_can_be_sent(error: BaseException, detail: str):
    failure = failure_of(error)

    assert failure.detail == detail
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(failure))["detail"] == detail


def test_refused_inputs_are_named_whatever_they_hold():
    failure = failure_of(InvalidInputs([Fault("/inputs/a\ud800", "not b\ud800")]))

    assert failure.cause == "bad input"
    assert [(fault.pointer, fault.message) for fault in failure.faults] == [("/inputs/a?", "not b?")]
    assert msgspec.json.encode(failure)
