"""Run a process here, without a server, as a job process would: find, check, resolve, run, keep.

The same functions do each step as in the server, so that the same sentences come out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from graticule import plugins
from graticule.cli.apart import Teller, run_apart
from graticule.client.calls import file_name, free_path
from graticule.errors import InvalidInputs, NoSuchProcess, PluginNotLoaded
from graticule.jobs.job import Manifest, StoredValue
from graticule.jobs.messages import ProcessRef
from graticule.jobs.outputs import keep_outputs
from graticule.ogc.common import Link
from graticule.ogc.processes import Execute, WantedOutput
from graticule.processes.decorator import discover, find_named, identifier_of
from graticule.processes.formats import is_json
from graticule.processes.inputs import InputChecker, ReferencePolicy
from graticule.processes.process import Process
from graticule.processes.resolve import resolve_inputs
from graticule.runtime.child import Context, load_processes
from graticule.runtime.references import reference_policy
from graticule.settings import Settings


def find_process(name: str, settings: Settings) -> Process:
    """
    Return a process by ``FILE.py:NAME``, ``package.module:NAME`` or its identifier alone.

    Raises
    ------
    NoSuchProcess
        If nothing has a process of that identifier.
    PluginNotLoaded
        If the named file or module cannot be loaded.
    """
    target, colon, wanted = name.partition(":")
    if colon:
        return _named(target, wanted)
    if name.endswith(".py"):
        return _only(load_processes(ProcessRef(target=name)), name)
    if name in settings.processes.disabled:
        raise _missing(name, "the settings leave it out; take it from processes.disabled")
    known: list[str] = []
    for ref in _refs(name, settings):
        try:
            processes = load_processes(ref)
        except PluginNotLoaded as error:
            # One that does not load fails only itself, here as in the server.
            sys.stderr.write(f"graticule: warning: {error}\n")
            continue
        if found := [process for process in processes if identifier_of(process) == name]:
            return found[0]
        known += map(identifier_of, processes)
    raise _missing(name, f"write FILE.py:{name} for that of a file; known by name are {', '.join(sorted(set(known)))}")


def _named(target: str, wanted: str) -> Process:
    loaded = plugins.load(target)
    if found := find_named(loaded, wanted):
        return _only(found, f"{target}:{wanted}")
    known = ", ".join(map(identifier_of, discover(loaded))) or "none; decorate a function with @process"
    raise _missing(wanted, f"{target} has these: {known}")


def _missing(name: str, remedy: str) -> NoSuchProcess:
    """Return the error with what helps here, where no server lists processes."""
    error = NoSuchProcess(name)
    error.add_note(remedy)
    return error


def _only(processes: list[Process], name: str) -> Process:
    if len(processes) == 1:
        return processes[0]
    names = ", ".join(f"{name.partition(':')[0]}:{identifier_of(process)}" for process in processes)
    raise PluginNotLoaded(name, f"it has several processes; name one: {names}")


def _refs(name: str, settings: Settings) -> Iterator[ProcessRef]:
    """Yield where such a process may be found; what is configured replaces what is built in, as in the server."""
    # Loaded here: these are the parts of a whole server, which `FILE.py:NAME` can do without.
    from graticule.runtime.published import builtin_refs, configured_refs

    yield from (ref for ref in reversed(configured_refs(settings)) if ref.id in ("", name))
    # The module that is named like the process first: the others need not be loaded then.
    own = f".{name.replace('-', '_')}"
    yield from sorted(builtin_refs(), key=lambda ref: not ref.target.endswith(own))


def policy_of(settings: Settings, files: Mapping[str, Path]) -> ReferencePolicy:
    """Return what references may point to: what the settings allow, and the files that the command line named."""
    local_files = {href: str(path) for href, path in files.items()}
    return msgspec.structs.replace(reference_policy(settings), local_files=local_files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a process."""

    process: Process
    inputs: Mapping[str, Any]
    """As in an execute request."""
    outputs: Mapping[str, Any] | None
    policy: ReferencePolicy

    def into(self, output_dir: Path, told: Any) -> dict[str, Any]:
        """
        Run, write files to a folder and return paths and values by output.

        Raises
        ------
        InvalidInputs
            If inputs or outputs do not fit.
        ProcessFault, JobFailed
            If the process failed, or ended without a word; the traceback of what it raised is printed.
        Dismissed
            If it was stopped.
        """
        wanted = None if self.outputs is None else msgspec.convert(self.outputs, dict[str, WantedOutput])
        description = self.process.description
        if faults := InputChecker(description).check(self.inputs, wanted, self.policy):
            raise InvalidInputs(faults)
        execute = Execute(inputs=dict(self.inputs), outputs=wanted)
        with _scratch() as folder:

            def work(teller: Teller) -> Manifest:
                context = Context(folder, execute, self.process, teller)
                try:
                    inputs = resolve_inputs(description, execute.inputs, policy=self.policy, folder=folder)
                    try:
                        outputs = self.process.run(inputs, context)
                    finally:
                        teller.end_if_forked()
                    return keep_outputs(outputs, description, context.wanted, folder)
                finally:
                    context.close()

            manifest = run_apart(work, told)
            return kept(manifest, folder / "outputs", output_dir)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder to work in, as a job has one; what is printed meanwhile goes to standard error."""
    before = Path.cwd()
    sys.stdout.flush()
    standard_output = os.dup(1)
    with tempfile.TemporaryDirectory(prefix="graticule-") as name:
        os.dup2(2, 1)
        os.chdir(name)
        try:
            with redirect_stdout(sys.stderr):
                yield Path(name)
        finally:
            os.chdir(before)
            sys.stdout.flush()
            os.dup2(standard_output, 1)
            os.close(standard_output)


def kept(manifest: Manifest, produced: Path, output_dir: Path) -> dict[str, Any]:
    """Return the outputs of a manifest: files moved to a folder, small JSON and text as values, links as links."""
    output_dir.mkdir(parents=True, exist_ok=True)
    values = {
        name: [_kept(name, value, produced, output_dir) for value in output.values] for name, output in manifest.items()
    }
    return {name: values[name] if manifest[name].many else values[name][0] for name in values}


def _kept(name: str, value: StoredValue, produced: Path, output_dir: Path) -> Any:
    if value.href is not None:
        return Link(href=value.href, rel="item", type=value.media_type, title=value.title)
    if value.file is not None:
        path = free_path(output_dir, file_name(name, href=value.file, media_type=value.media_type))
        _move(produced / value.file, path)
        return path
    content = value.content or b""
    if is_json(value.media_type):
        return msgspec.json.decode(content)
    if value.media_type.startswith("text/"):
        return content.decode()
    path = free_path(output_dir, file_name(name, media_type=value.media_type))
    path.write_bytes(content)
    return path


def _move(source: Path, path: Path) -> None:
    import shutil

    shutil.move(source, path)
