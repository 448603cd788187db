"""``graticule dismiss``: stop jobs, or remove ones that have ended."""

from __future__ import annotations

from typing import Any

import click

from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_line


@click.command("dismiss")
@click.argument("job_ids", metavar="[JOB]...", nargs=-1)
@click.option("--status", multiple=True, help="All jobs of this status; may be repeated.")
@click.option("--process", "process_ids", multiple=True, metavar="PROCESS", help="All jobs of this process.")
@click.option("--label", "labels", multiple=True, help="All jobs of this label.")
@click.option(
    "--datetime", "moments", metavar="FROM/TO", help="All jobs that were sent then, as in 2026-01-01T00:00:00Z/.."
)
@click.option("--yes", is_flag=True, help="Do not ask before many jobs are dismissed.")
@click.option("--dry-run", is_flag=True, help="Only tell how many jobs that would be.")
@service_options
@json_option
def command(  # noqa: PLR0913 - one for each option
    job_ids: tuple[str, ...],
    status: tuple[str, ...],
    process_ids: tuple[str, ...],
    labels: tuple[str, ...],
    moments: str | None,
    service: Service,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Stop jobs, or remove ended ones with their results: those that are named, or all that the options select.

    Options combine. Jobs that have ended are selected only if --status names theirs.
    """
    filters: dict[str, Any] = {
        "status": list(status),
        "processID": list(process_ids),
        "label": list(labels),
        "datetime": moments,
    }
    if any(filters.values()) == bool(job_ids):
        raise click.UsageError("name jobs, or select them by --status, --process, --label and --datetime")
    if job_ids:
        _dismiss(job_ids, service, as_json=as_json)
        return
    with service.client() as client:
        done = client.dismiss_all(dry_run=dry_run or not yes, **filters)
        if not dry_run and not yes and done.matched:
            click.confirm(f"Dismiss {done.matched} job{'s' if done.matched > 1 else ''}?", abort=True, err=True)
            done = client.dismiss_all(**filters)
    if as_json:
        print_json(done)
    elif dry_run:
        print_line(f"would be dismissed: {done.matched}")
    else:
        print_line(f"stopped: {done.dismissed}, removed: {done.removed}")


def _dismiss(job_ids: tuple[str, ...], service: Service, *, as_json: bool) -> None:
    with service.client() as client:
        jobs = [client.dismiss(job_id) for job_id in job_ids]
    if as_json:
        print_json(jobs)
        return
    for job in jobs:
        print_line(f"{job.id or job.job_id}: {job.status}")
