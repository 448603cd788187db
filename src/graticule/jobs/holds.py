"""What operators hold back: the queue, a workspace, a process or a worker; since when, by whom and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import msgspec

from graticule.errors import QueueHeld

if TYPE_CHECKING:
    from graticule.jobs.ledger import Ledger
    from graticule.jobs.queue import QueueRules

Action = Literal["pause", "drain"]
"""``pause``: what waits does not begin. ``drain``: nothing new is taken, what is there is done; a worker begins nothing
and ends."""

Kind = Literal["queue", "workspace", "process", "worker"]

SCOPE = r"^(queue|(workspace|process|worker):[^\x00-\x1F\x7F]{1,255})$"
"""What a hold is on: ``queue``, or a kind and a name, as in ``process:buffer``."""
MOST_REASON = 500
"""Characters of a reason."""

_STATES: dict[Action, str] = {"pause": "paused", "drain": "drained"}


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator holds back."""

    scope: str
    action: Action
    reason: str = ""
    actor: str = ""
    """Who did it."""
    since: int = 0
    """Microseconds since 1970."""

    @property
    def sentence(self) -> str:
        """What is held back, how and why: ``process 'buffer' is paused: a new version comes``."""
        kind, name = parse_scope(self.scope)
        subject = {"queue": "the queue", "workspace": f"the queue of workspace {name!r}"}.get(kind, f"{kind} {name!r}")
        return f"{subject} is {_STATES[self.action]}" + (f": {self.reason}" if self.reason else "")


def parse_scope(scope: str) -> tuple[Kind, str]:
    """Return kind and name of what a scope means."""
    kind, _, name = scope.partition(":")
    return kind, name  # type: ignore[return-value]


def is_scope(text: str) -> bool:
    """Whether a text is a scope."""
    return re.fullmatch(SCOPE.strip("^$"), text) is not None


class Holds:
    """What is held back, as this process knows it: read from the ledger whenever that says that it has changed.

    Parameters
    ----------
    ledger : Ledger
        Where holds are kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[str, Hold] = {}

    def __iter__(self) -> Iterator[Hold]:
        return iter(self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    async def read(self) -> None:
        """Learn what is held back now."""
        self._held = {hold.scope: hold for hold in await self._ledger.holds()}

    def find(self, kind: Kind, name: str = "", *, action: Action | None = None) -> Hold | None:
        """Return the hold on something, if there is one (of that kind)."""
        hold = self._held.get(f"{kind}:{name}" if name else kind)
        return hold if hold is not None and action in (None, hold.action) else None

    def over(self, workspace: str, process: str, action: Action) -> Hold | None:
        """Return the widest hold on the jobs of a process in a workspace, if there is one of that kind."""
        return (
            self.find("queue", action=action)
            or self.find("workspace", workspace, action=action)
            or self.find("process", process, action=action)
        )

    def check_open(self, workspace: str, process: str) -> None:
        """Raise QueueHeld if no further job of a process is taken in a workspace."""
        if self._held and (hold := self.over(workspace, process, "drain")):
            raise QueueHeld(hold.sentence)

    def check_prompt(self, workspace: str, process: str) -> None:
        """Raise QueueHeld if nobody should wait for the result of a job now, since it does not begin."""
        if self._held and (hold := self.over(workspace, process, "pause")):
            raise QueueHeld(f"{hold.sentence}; with 'Prefer: respond-async' the job is taken and waits")

    def applied(self, rules: QueueRules, worker: str) -> QueueRules:
        """Return the rules of a worker as they are with what is held back."""
        paused: dict[str, set[str]] = {"workspace": set(), "process": set()}
        for hold in self._held.values():
            kind, name = parse_scope(hold.scope)
            if hold.action == "pause" and kind in paused:
                paused[kind].add(name)
        return msgspec.structs.replace(
            rules,
            paused=self.find("queue", action="pause") is not None or self.find("worker", worker) is not None,
            paused_processes=frozenset(paused["process"]),
            paused_workspaces=frozenset(paused["workspace"]),
        )
