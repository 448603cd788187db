"""Options that name settings, shared by the commands that read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from graticule.cli.show import print_note
from graticule.settings import Effective, read_settings

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="GRATICULE_CONFIG",
    metavar="FILE",
    help="TOML file of settings, or a pygeoapi configuration (.yml).",
)


def effective(config: Path | None, options: Mapping[str, tuple[str, Any]] | None = None) -> Effective:
    """
    Return the settings with what the command line says on top; warnings go to standard error.

    Parameters
    ----------
    config : Path, optional
        The file of settings.
    options : Mapping, optional
        Option → dotted name and value; a value of None was not given.
    """
    given = {name: (value, option) for option, (name, value) in (options or {}).items() if value is not None}
    read = read_settings(config, environ=os.environ, options=given)
    for warning in read.warnings:
        print_note(f"graticule: warning: {warning}")
    return read
