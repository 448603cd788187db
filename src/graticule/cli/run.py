"""``graticule run``: run a process here, without a server."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from graticule.cli.assignments import read_inputs, read_outputs
from graticule.cli.configuration import config_option, effective
from graticule.cli.exits import Exit
from graticule.cli.service import json_option, output_dir_option
from graticule.cli.show import print_note, print_outputs, progress_bar
from graticule.errors import InvalidSetting
from graticule.ogc.jobs import StatusInfo
from graticule.settings import Settings


@click.command("run")
@click.argument("name", metavar="[FILE.py:]PROCESS")
@click.argument("assignments", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("-i", "--inputs", "source", metavar="FILE", help="JSON file of inputs; - reads standard input.")
@click.option("-o", "--output", "outputs", metavar="NAME", multiple=True, help="Output that is wanted; default: all.")
@output_dir_option
@config_option
@json_option
def command(
    name: str,
    assignments: tuple[str, ...],
    source: str | None,
    outputs: tuple[str, ...],
    output_dir: Path,
    config: Path | None,
    *,
    as_json: bool,
) -> int:
    """Run a process here, as the server would.

    Values are JSON where the input wants it, else text. A path or @FILE is a file, an http(s) address a reference,
    sample:NAME one of the sample files. What the process prints goes to standard error.
    """
    settings = effective(config).settings
    running = os.environ.pop(_STARTED_WITH, "")
    _become_its_python(name.partition(":")[2] or name, settings, running)
    from graticule.cli.local import Run, find_process, policy_of
    from graticule.processes.process import Dismissed

    process = find_process(name, settings)
    # Once more: only now is it known what FILE.py alone, or another spelling, is called.
    _become_its_python(process.description.id, settings, running)
    with tempfile.TemporaryDirectory(prefix="graticule-samples-") as samples:
        inputs = read_inputs(source, assignments, process.description, samples=_samples(assignments, Path(samples)))
        inputs, files = as_references(inputs)
        run = Run(process=process, inputs=inputs, outputs=read_outputs(outputs), policy=policy_of(settings, files))
        try:
            with progress_bar(process.description.id) as told:
                made = run.into(output_dir.absolute(), lambda step: told(_status(step)))
        except Dismissed:
            print_note("graticule: stopped")
            return Exit.INTERRUPTED
    print_outputs(made, as_json=as_json)
    return Exit.DONE


_STARTED_WITH = "_GRATICULE_STARTED_WITH"
"""Tells a run that was started again which program that was: a wrapper's Python has another path than the wrapper."""


def _become_its_python(process_id: str, settings: Settings, running: str) -> None:
    """
    Start again with the Python that the settings name for this process, as its job process would be.

    Parameters
    ----------
    process_id : str
        Its identifier, or what may be it.
    settings : Settings
        They name the Python.
    running : str
        The program that this run was started again with; empty if it was not.

    Raises
    ------
    InvalidSetting
        If there is no such program.
    """
    each = settings.processes.each.get(process_id)
    if each is None or not each.python:
        return
    program = shutil.which(Path(each.python).expanduser())
    if program is None:
        raise InvalidSetting(f"processes.{process_id}.python", f"{each.python!r} is no program that can be run")
    # Not resolved: an environment's Python is a link to the one that it was made with, and differs by its path alone.
    program = str(Path(program).absolute())
    if program in (running, str(Path(sys.executable).absolute())):
        return
    os.environ[_STARTED_WITH] = program
    os.execv(program, [program, "-m", "graticule", *sys.argv[1:]])  # noqa: S606 - no shell is meant


def _status(step: Any) -> StatusInfo:
    return StatusInfo(status="running", progress=step.percent, message=step.message or None)


def _samples(assignments: tuple[str, ...], folder: Path) -> str | None:
    """Return the address of the sample files; they are made when one is asked for."""
    if not any("=sample:" in assignment for assignment in assignments):
        return None
    from graticule.processes.samples import generate_samples

    generate_samples(folder)
    return folder.as_uri()


def as_references(inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return inputs as a request has them, and the files behind their references."""
    from graticule.client.calls import encoded, local_files
    from graticule.ogc.common import Link

    files = {path.absolute().as_uri(): path.absolute() for path in local_files(inputs)}
    samples = [
        value
        for given in inputs.values()
        for value in (given if isinstance(given, list) else [given])
        if isinstance(value, Link) and "/graticule-samples-" in value.href
    ]
    files |= {link.href: Path(link.href.removeprefix("file://")) for link in samples}
    hrefs = {path: path.absolute().as_uri() for path in local_files(inputs)}
    return {name: encoded(value, hrefs) for name, value in inputs.items()}, files
