"""The command ``graticule``: one file a command, loaded when it is called.

Importing this costs little: tables, the client and whatever serves or runs load inside the commands.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from graticule import __version__

COMMANDS = (
    "serve",
    "worker",
    "run",
    "new",
    "processes",
    "describe",
    "execute",
    "jobs",
    "job",
    "results",
    "dismiss",
    "again",
    "queue",
    "settings",
    "db",
    "backup",
)
"""In the order of a first visit: what one runs here, then what one asks of a running service."""


class _Commands(click.Group):
    """Commands that are found by their name in this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"graticule.cli.{cmd_name}")
        command: click.Command = module.command
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 the job failed, 2 wrong usage, 3 not found, 4 bad input, 5 no server, 6 not allowed, "
    "7 fault of the server, 8 wrong setting or plug-in, 9 waited long enough.",
)
@click.version_option(__version__, prog_name="graticule")
def graticule() -> None:
    """Run geoprocessing: serve processes, run one here, or ask a running service."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    arguments : Sequence of str, optional
        What stands after the command's name; default: ``sys.argv``.

    Returns
    -------
    int
        The exit code; ``cli/exits.py`` lists them.
    """
    from graticule.cli.exits import Exit, code_of, report

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result: Any = graticule.main(args=arguments, prog_name="graticule", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except BrokenPipeError:
        # Who reads our output has read enough, e.g. `head`.
        sys.stdout = None
        return Exit.DONE
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        report(error, code, as_json="--json" in arguments)
        return code
    return result if isinstance(result, int) else Exit.DONE
