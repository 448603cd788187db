"""``graticule processes``: what a service can run."""

from __future__ import annotations

from collections.abc import Sequence

import click

from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_table


@click.command("processes")
@service_options
@json_option
def command(service: Service, *, as_json: bool) -> None:
    """List the processes of a service."""
    with service.client() as client:
        processes = list(client.processes(limit=1000))
    if as_json:
        print_json(processes)
        return
    rows = ((process.id, process.version, process.title, _modes(process.job_control_options)) for process in processes)
    print_table(("process", "version", "title", "runs"), rows)


def _modes(options: Sequence[str]) -> str:
    return ", ".join(option.removesuffix("-execute") for option in options if option.endswith("-execute"))
