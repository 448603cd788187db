"""``graticule settings``: what is set, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from graticule.cli.configuration import config_option, effective
from graticule.cli.service import json_option
from graticule.cli.show import print_json, print_table
from graticule.settings import default_of, iter_settings, variable_of


@click.command("settings")
@config_option
@json_option
def command(config: Path | None, *, as_json: bool) -> None:
    """Print every setting and where it comes from.

    Secrets are hidden. `--json` adds defaults and the names of variables.
    """
    read = effective(config)
    if as_json:
        print_json(
            {
                name: {
                    "value": value,
                    "source": read.source(name),
                    "default": default_of(name),
                    "variable": variable_of(name),
                }
                for name, value in iter_settings(read.settings)
            }
        )
        return
    rows = ((name, _shown(value), read.source(name)) for name, value in iter_settings(read.settings))
    print_table(("setting", "value", "source"), rows)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value or "-"
    if isinstance(value, Sequence | Mapping) and not value:
        return "-"
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return msgspec.json.encode(value).decode()
