"""``graticule results``: what a job has made."""

from __future__ import annotations

from pathlib import Path

import click

from graticule.cli.service import Service, json_option, output_dir_option, service_options
from graticule.cli.show import print_outputs


@click.command("results")
@click.argument("job_id", metavar="JOB")
@click.argument("outputs", metavar="[OUTPUT]...", nargs=-1)
@output_dir_option
@service_options
@json_option
def command(job_id: str, outputs: tuple[str, ...], output_dir: Path, service: Service, *, as_json: bool) -> None:
    """Fetch the results of a job.

    Files are written to a folder, other values are printed.
    """
    with service.client() as client:
        saved = client.save_results(client.results(job_id, *outputs), output_dir)
    print_outputs(saved, as_json=as_json)
