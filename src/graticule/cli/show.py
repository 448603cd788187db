"""What commands print: tables and progress for people, JSON for scripts. rich loads when a table is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from graticule.client.calls import OnProgress
    from graticule.ogc.jobs import StatusInfo


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    sys.stdout.write(text.decode() + "\n")


def print_line(text: str) -> None:
    """Print a line as it is."""
    sys.stdout.write(text + "\n")


def print_note(text: str) -> None:
    """Print a line for people to standard error, so that standard output stays clean."""
    sys.stderr.write(text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; outside a terminal no line is cut, so that other programs can read it."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    console = Console(width=10_000)
    with console.capture() as capture:
        console.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n")


@contextmanager
def progress_bar(title: str) -> Iterator[OnProgress]:
    """Show how a job gets on, on standard error, and only to somebody who looks at a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=100, message="")

        def told(job: StatusInfo) -> None:
            progress.update(task, completed=job.progress or 0, message=job.message or job.status)

        yield told


def print_outputs(outputs: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the outputs of a process: files by their path, other values as they are."""
    if as_json:
        print_json({name: _told(value) for name, value in outputs.items()})
        return
    for name, value in outputs.items():
        print_line(f"{name}: {_shown(value)}")


def _told(value: Any) -> Any:
    if isinstance(value, Path):
        return {"file": str(value), "size": value.stat().st_size}
    return [_told(item) for item in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return f"{value} ({size(value.stat().st_size)})"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and any(isinstance(item, Path) for item in value):
        return ", ".join(_shown(item) for item in value)
    text = msgspec.json.encode(value, enc_hook=str)
    return (text if len(text) <= 100 else msgspec.json.format(text, indent=2)).decode()


def size(count: int) -> str:
    """Return a number of bytes for people."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
