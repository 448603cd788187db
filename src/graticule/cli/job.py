"""``graticule job``: how a job stands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from graticule.cli.execute import told_failure
from graticule.cli.exits import Exit
from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_table, progress_bar
from graticule.ogc.jobs import StatusInfo


@click.command("job")
@click.argument("job_id", metavar="JOB")
@click.option("--log", is_flag=True, help="Print what its process printed, nothing else.")
@click.option("--wait", is_flag=True, help="Wait until it has ended; exit code 1 if it did not succeed.")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
@service_options
@json_option
def command(job_id: str, timeout: float | None, service: Service, *, log: bool, wait: bool, as_json: bool) -> int:
    """Show how a job stands."""
    with service.client() as client:
        if log:
            click.echo(client.log(job_id), nl=False)
            return Exit.DONE
        if wait:
            with progress_bar(job_id) as told:
                job = client.wait(job_id, timeout=timeout, on_progress=told)
            if job.status != "successful":
                return told_failure(job, as_json=as_json)
        else:
            job = client.job(job_id)
    if as_json:
        print_json(job)
    else:
        print_table(("job", job.id or job.job_id), _rows(job))
    return Exit.DONE


def _rows(job: StatusInfo) -> Iterator[tuple[str, str]]:
    progress = None if job.progress is None else f"{job.progress} %"
    facts = {
        "process": job.process_id,
        "status": job.status,
        "progress": progress,
        "message": job.message,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "problem": job.exception.detail or job.exception.title if job.exception else None,
    }
    yield from ((name, str(fact)) for name, fact in facts.items() if fact)
    yield from ((link.title or link.rel.rpartition("/")[2], link.href) for link in job.links if link.rel != "self")
