"""What is held back says so, and changes the rules of a worker."""

from __future__ import annotations

import pytest

from graticule.errors import QueueHeld
from graticule.jobs.holds import Hold, Holds, is_scope
from graticule.jobs.queue import QueueRules


class Kept:
    """A ledger that has some holds and nothing else."""

    def __init__(self, *holds: Hold) -> None:
        self._holds = holds

    async def holds(self) -> list[Hold]:
        return list(self._holds)


async def read(*holds: Hold) -> Holds:
    found = Holds(Kept(*holds))  # type: ignore[arg-type]
    await found.read()
    return found


@pytest.mark.parametrize(
    ("scope", "action", "reason", "sentence"),
    [
        ("queue", "pause", "", "the queue is paused"),
        ("workspace:east", "drain", "we move", "the queue of workspace 'east' is drained: we move"),
        ("process:a:b", "pause", "why not", "process 'a:b' is paused: why not"),
    ],
)
def test_a_hold_says_what_is_held_back_and_why(scope, action, reason, sentence):
    assert Hold(scope=scope, action=action, reason=reason).sentence == sentence


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("queue", True), ("process:a b", True), ("worker:x", True), ("workspace:east", True),
        ("queue:x", False), ("process:", False), ("process", False), ("Queue", False), ("process:a\n", False),
    ],
)  # fmt: skip
def test_a_scope_is_the_queue_or_a_kind_and_a_name(text, is_one):
    assert is_scope(text) is is_one


async def test_a_worker_pauses_what_is_paused_and_goes_on_with_what_is_drained():
    holds = await read(
        Hold(scope="process:a", action="pause"),
        Hold(scope="process:b", action="drain"),
        Hold(scope="workspace:east", action="pause"),
        Hold(scope="worker:w", action="drain"),
    )
    rules = QueueRules(most=3)

    assert holds.applied(rules, "other") == QueueRules(
        most=3, paused_processes=frozenset({"a"}), paused_workspaces=frozenset({"east"})
    )
    assert holds.applied(rules, "w").paused


async def test_only_what_is_drained_takes_nothing_and_only_what_is_paused_is_not_waited_for():
    holds = await read(Hold(scope="process:a", action="pause"), Hold(scope="workspace:east", action="drain"))

    holds.check_open("west", "a")
    holds.check_prompt("east", "b")
    with pytest.raises(QueueHeld, match="drained"):
        holds.check_open("east", "b")
    with pytest.raises(QueueHeld, match="respond-async"):
        holds.check_prompt("west", "a")
