"""``graticule jobs``: the jobs of a service."""

from __future__ import annotations

from itertools import islice

import click

from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_table


@click.command("jobs")
@click.option("--status", multiple=True, help="Only jobs of this status; may be repeated.")
@click.option("--process", "process_ids", multiple=True, metavar="PROCESS", help="Only jobs of this process.")
@click.option("--label", "labels", multiple=True, help="Only jobs of this label.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@service_options
@json_option
def command(
    status: tuple[str, ...],
    process_ids: tuple[str, ...],
    labels: tuple[str, ...],
    limit: int,
    service: Service,
    *,
    as_json: bool,
) -> None:
    """List the jobs of a service, newest first."""
    with service.client() as client:
        found = client.jobs(status=list(status), processID=list(process_ids), label=list(labels), limit=limit)
        jobs = list(islice(found, limit))
    if as_json:
        print_json(jobs)
        return
    rows = ((job.id or job.job_id, job.process_id, job.status, _percent(job.progress), job.created) for job in jobs)
    print_table(("job", "process", "status", "progress", "created"), rows)


def _percent(progress: int | None) -> str:
    return "" if progress is None else f"{progress} %"
