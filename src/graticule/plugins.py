"""Find and load what other people wrote: modules, files and entry points."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from graticule.errors import PluginNotLoaded


def load(target: str) -> Any:
    """Return the module, or the object in a module, that `target` names.

    Parameters
    ----------
    target : str
        ``package.module``, ``package.module:name``, ``package.module.Name`` or the path of a ``.py`` file, with
        ``:name`` for one object in it.

    Raises
    ------
    PluginNotLoaded
        If it cannot be found or its import fails, with the reason.
    """
    place, _, name = target.partition(":")
    try:
        module = _file(Path(place)) if place.endswith(".py") else _module(place)
        return _attribute(module, name) if name else module
    except PluginNotLoaded:
        raise
    except Exception as error:
        raise PluginNotLoaded(target, f"{type(error).__name__}: {error}") from error


def find_entry_points(kind: str) -> list[EntryPoint]:
    """Return the entry points of the group ``graticule.KIND``, sorted by name."""
    return sorted(entry_points(group=f"graticule.{kind}"), key=lambda point: point.name)


def _module(name: str) -> Any:
    """Import ``package.module``; of ``package.module.Name`` that is no module, return the object."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        parent, _, last = name.rpartition(".")
        # Only when the last part itself is missing may it be an object; what it imports may be missing too.
        if parent and error.name == name:
            return _attribute(importlib.import_module(parent), last)
        raise


def place_of(module: str) -> str:
    """Return what a user calls a module: the path of one that was named by its file, else its name."""
    return _files.get(module, module)


_files: dict[str, str] = {}
"""Paths of the modules that were named by their files."""


def _file(path: Path) -> ModuleType:
    given, path = path, path.resolve()
    if not path.is_file():
        raise PluginNotLoaded(str(path), "there is no such file")
    # Named after the whole path: two files of the same name are two modules.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    _files[name] = str(given)
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # so that it can import its neighbours, as a script can
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginNotLoaded(str(path), "it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _attribute(holder: Any, path: str) -> Any:
    for part in path.split("."):
        holder = getattr(holder, part)
    return holder
