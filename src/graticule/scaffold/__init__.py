"""A plug-in package to start from: one documented process, its test and a README."""

from __future__ import annotations

import importlib.util
import keyword
import re
import string
import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from graticule.errors import Fault, InvalidInputs

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 100
"""Letters of a name: names of files are made of it."""

_TAKEN = frozenset({"graticule", "test", "tests"})

TEMPLATES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "package/init.py": "src/$package/__init__.py",
    "tests/test.py": "tests/test_$package.py",
}
"""Templates in ``template/`` (each ends in ``.template``) and where they go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffold:
    """What was made."""

    folder: Path
    files: tuple[Path, ...]


def make_plugin(name: str, parent: Path, *, reserved: Collection[str] = ()) -> Scaffold:
    """
    Make a plug-in package in a new folder of its name.

    Parameters
    ----------
    name : str
        Identifier of its process: small letters, digits and hyphens; the package has ``_`` for ``-``.
    parent : Path
        Where the folder is made.
    reserved : Collection[str]
        Names that mean something else in a service.

    Returns
    -------
    Scaffold
        The folder and the files in it.

    Raises
    ------
    InvalidInputs
        If the name cannot be that of a package, or the folder exists or cannot be written.
    """
    if reason := _fault_of(name, reserved):
        raise InvalidInputs([Fault("/name", reason)])
    folder = parent / name
    if folder.exists():
        raise InvalidInputs([Fault("/name", f"{str(folder)!r} exists; choose another name or remove it")])
    package = name.replace("-", "_")
    words = {"name": name, "package": package, "title": name.replace("-", " ").capitalize()}
    try:
        return Scaffold(folder=folder, files=tuple(_written(folder, words)))
    except OSError as error:
        reason = f"{str(folder)!r} cannot be written ({error.strerror}); choose another folder"
        raise InvalidInputs([Fault("/parent", reason)]) from error


def _fault_of(name: str, reserved: Collection[str]) -> str | None:
    if not _NAME.fullmatch(name):
        return f"{name!r} must be small letters, digits and single hyphens, beginning with a letter, e.g. 'my-process'"
    if len(name) > _LONGEST:
        return f"this has {len(name)} letters; choose a name of at most {_LONGEST}"
    package = name.replace("-", "_")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        meaning = "is a word of the language Python"
    elif package in sys.stdlib_module_names:
        meaning = f"would give a package {package!r}, which Python itself has"
    elif name in _TAKEN or name in reserved:
        meaning = "means something else to Graticule"
    elif name in _needed() or _is_there(package):
        meaning = f"is a package that is there already; a second {package!r} would hide it"
    else:
        return None
    return f"{name!r} {meaning}; choose another name, e.g. 'my-{name}'"


def _needed() -> set[str]:
    """Return the names of the distributions that Graticule needs, or can use."""
    try:
        requirements = metadata.requires("graticule") or []
    except metadata.PackageNotFoundError:  # it runs from a folder
        return set()
    names = (re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def _is_there(package: str) -> bool:
    """Return whether a package can be imported; a folder without a module of its own is none."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


def _written(folder: Path, words: dict[str, str]) -> list[Path]:
    made = []
    for source, place in TEMPLATES.items():
        template = resources.files("graticule.scaffold").joinpath(f"template/{source}.template")
        path = folder / string.Template(place).substitute(words)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(string.Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        made.append(path)
    return made
