"""``graticule queue``: look at the queue of a service, hold it back, and move jobs in it."""

from __future__ import annotations

from typing import Literal

import click

from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_line, print_table

_scope = click.argument("scope", default="queue")
_reason = click.option("--reason", default="", help="For those whose jobs it concerns.")


@click.group("queue")
def command() -> None:
    """Look at the queue of a service, hold it back, or move a job in it; for operators.

    SCOPE is queue, which is all of it, or workspace:NAME, process:ID or worker:ID.
    """


@command.command("show")
@service_options
@json_option
def show(service: Service, *, as_json: bool) -> None:
    """Tell what waits, runs and is held back, and who runs jobs."""
    with service.client() as client:
        queue = client.queue()
    if as_json:
        print_json(queue)
        return
    print_line(f"waiting: {queue.waiting}, running: {queue.running}")
    if queue.holds:
        rows = ((one.scope, one.action, one.actor, one.since, one.reason) for one in queue.holds)
        print_table(("held back", "how", "by", "since", "reason"), rows)
    if queue.lanes:
        waiting = ((one.workspace, one.actor, one.process_id, one.priority, one.waiting) for one in queue.lanes)
        print_table(("workspace", "actor", "process", "priority", "waiting"), waiting)
    if queue.load:
        running = ((one.workspace, one.actor, one.process_id, one.running) for one in queue.load)
        print_table(("workspace", "actor", "process", "running"), running)
    workers = (
        (one.id, one.kind, one.host, one.state, f"{one.busy} of {one.places}", " ".join(one.labels))
        for one in queue.workers
    )
    print_table(("worker", "kind", "host", "state", "busy", "labels"), workers)


@command.command("pause")
@_scope
@_reason
@service_options
@json_option
def pause(scope: str, reason: str, service: Service, *, as_json: bool) -> None:
    """Let nothing begin; what runs goes on, and what is sent waits."""
    _hold(scope, "pause", reason, service, as_json=as_json)


@command.command("drain")
@_scope
@_reason
@service_options
@json_option
def drain(scope: str, reason: str, service: Service, *, as_json: bool) -> None:
    """Take nothing new; what waits and runs is done. A worker takes no more jobs and ends."""
    _hold(scope, "drain", reason, service, as_json=as_json)


@command.command("resume")
@_scope
@service_options
def resume(scope: str, service: Service) -> None:
    """Go on with what was paused or drained."""
    with service.client() as client:
        client.release(scope)
    print_line(f"{scope}: held back no longer")


@command.command("priority")
@click.argument("job_id", metavar="JOB")
@click.argument("priority", type=int)
@service_options
@json_option
def set_priority(job_id: str, priority: int, service: Service, *, as_json: bool) -> None:
    """Give a waiting job another priority; larger goes first, others have 0. A negative one stands after --."""
    with service.client() as client:
        job = client.prioritize(job_id, priority)
    if as_json:
        print_json(job)
    else:
        print_line(f"{job.id or job.job_id}: position {job.queue_position} in the queue")


def _hold(scope: str, action: Literal["pause", "drain"], reason: str, service: Service, *, as_json: bool) -> None:
    with service.client() as client:
        held = client.hold(scope, action, reason)
    if as_json:
        print_json(held)
    else:
        print_line(f"{held.scope}: {held.action} since {held.since}")
