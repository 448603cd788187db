"""``graticule execute``: run a process on a service and fetch its results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graticule.cli.assignments import read_inputs, read_outputs
from graticule.cli.exits import Exit, code_of_status
from graticule.cli.service import Service, json_option, output_dir_option, service_options
from graticule.cli.show import print_json, print_line, print_note, print_outputs, progress_bar
from graticule.ogc.jobs import StatusInfo

if TYPE_CHECKING:
    from graticule.client import Client, Results


_SAMPLES = "/files/samples"
"""The short address of the samples: it holds in every workspace, and whatever the service calls itself."""


@click.command("execute")
@click.argument("process_id", metavar="PROCESS")
@click.argument("assignments", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("-i", "--inputs", "source", metavar="FILE", help="JSON file of inputs; - reads standard input.")
@click.option("-o", "--output", "outputs", metavar="NAME", multiple=True, help="Output that is wanted; default: all.")
@output_dir_option
@click.option("--label", "labels", metavar="LABEL", multiple=True, help="What to call the job, to find it again.")
@click.option("--async", "only_submit", is_flag=True, help="Start a job, print its id and do not wait.")
@click.option("--timeout", type=float, help="Seconds to wait for the job at most; it goes on afterwards.")
@service_options
@json_option
def command(  # noqa: PLR0913 - one for each option
    process_id: str,
    assignments: tuple[str, ...],
    source: str | None,
    outputs: tuple[str, ...],
    output_dir: Path,
    labels: tuple[str, ...],
    timeout: float | None,
    service: Service,
    *,
    only_submit: bool,
    as_json: bool,
) -> int:
    """Run a process on a service.

    Values are JSON where the input wants it, else text. A path or @FILE is uploaded; an http(s) address is a reference;
    sample:NAME is one of the sample files of the service.
    """
    with service.client() as client:
        process = client.process(process_id)
        inputs = read_inputs(source, assignments, process, samples=_SAMPLES)
        wanted = read_outputs(outputs)
        if not process.allows_async and not only_submit:
            return _fetched(client, client.execute(process_id, inputs, wanted), output_dir, as_json=as_json)
        job = client.submit(process_id, inputs, wanted, labels=labels)
        if only_submit:
            print_json(job) if as_json else print_line(job.id)
            return Exit.DONE
        job = _watched(client, job, timeout)
        if job.status != "successful":
            return told_failure(job, as_json=as_json)
        return _fetched(client, client.results(job), output_dir, as_json=as_json)


def _watched(client: Client, job: StatusInfo, timeout: float | None) -> StatusInfo:
    try:
        with progress_bar(job.process_id or job.id) as told:
            return client.wait(job, timeout=timeout, on_progress=told)
    except KeyboardInterrupt:
        print_note(f"job {job.id} goes on; graticule dismiss {job.id} stops it")
        raise


def _fetched(client: Client, results: Results, output_dir: Path, *, as_json: bool) -> int:
    saved: dict[str, Any] = client.save_results(results, output_dir)
    print_outputs(saved, as_json=as_json)
    return Exit.DONE


def told_failure(job: StatusInfo, *, as_json: bool) -> int:
    """Print why a job did not succeed and return its exit code: inputs that were refused late are still bad input."""
    problem = job.exception
    if as_json:
        print_json(job)
    else:
        detail = (problem.detail or problem.title) if problem else job.message
        print_note(f"graticule: job {job.id} {job.status}: {detail or 'no reason given'}")
        for error in (problem.errors or []) if problem else []:
            print_note(f"  {error.get('pointer', '')}: {error.get('detail', '')}")
        if problem is not None and problem.remedy and not problem.errors:
            print_note(f"  {problem.remedy}")
        print_note(f"graticule job {job.id} --log shows what it printed")
    if problem is not None and 400 <= problem.status < 500:
        return code_of_status(problem.status)
    return Exit.JOB_FAILED
