"""``graticule new``: a plug-in package to start from."""

from __future__ import annotations

from pathlib import Path

import click

from graticule.cli.service import json_option
from graticule.cli.show import print_json, print_line


@click.command("new")
@click.argument("name")
@click.option("--parent", type=click.Path(path_type=Path), default=".", help="Folder to put it in; default: here.")
@json_option
def command(name: str, parent: Path, *, as_json: bool) -> None:
    """Make a plug-in package to start from.

    It has one process, its test and a README.

    NAME is the process's identifier: small letters, digits and hyphens, e.g. my-process.
    """
    from graticule.scaffold import make_plugin
    from graticule.settings import RESERVED_WORKSPACES

    made = make_plugin(name, parent, reserved=RESERVED_WORKSPACES)
    if as_json:
        print_json({"folder": str(made.folder), "files": [str(path) for path in made.files]})
        return
    print_line(f"made {made.folder}")
    print_line("")
    print_line(f"  cd {made.folder}")
    print_line("  pip install -e '.[test]'")
    print_line("  pytest")
    print_line(f"  graticule run {name} name=Ada")
    print_line("  graticule serve")
