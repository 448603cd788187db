"""``graticule again``: send ended jobs again."""

from __future__ import annotations

import click

from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_line


@click.command("again")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@service_options
@json_option
def command(job_ids: tuple[str, ...], service: Service, *, as_json: bool) -> None:
    """Send ended jobs again, with the same inputs, and print the new ones."""
    with service.client() as client:
        jobs = [client.again(job_id) for job_id in job_ids]
    if as_json:
        print_json(jobs)
        return
    for job in jobs:
        print_line(job.id)
