"""``graticule dismiss``: stop jobs, or remove ones that have ended."""

from __future__ import annotations

import click

from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_line


@click.command("dismiss")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@service_options
@json_option
def command(job_ids: tuple[str, ...], service: Service, *, as_json: bool) -> None:
    """Stop jobs, or remove ended ones with their results."""
    with service.client() as client:
        jobs = [client.dismiss(job_id) for job_id in job_ids]
    if as_json:
        print_json(jobs)
        return
    for job in jobs:
        print_line(f"{job.id or job.job_id}: {job.status}")
