"""What a pygeoapi configuration says, in our settings: processors, address, title, ledger and storage folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from graticule.errors import InvalidSetting

_OURS_ALONE = frozenset({"database", "jobs", "storage", "security", "workspaces", "limits"})
"""Sections that pygeoapi does not have: they mean in its file what they mean in ours."""

_SERVER_KEYS = frozenset({"bind", "url", "cors", "manager"})
_PROCESS_KEYS = ("python", "processor")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-)?([^}]*)\}")


def read_pygeoapi(text: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """
    Return what a pygeoapi configuration says as tables of our settings, and warnings about what it says besides.

    Parameters
    ----------
    text : str
        The YAML file.
    environ : Mapping
        Variables that ``${NAME}`` and ``${NAME:-default}`` stand for.

    Raises
    ------
    InvalidSetting
        If it is no YAML, lacks what it needs, or names a process manager that has no counterpart here.

    References
    ----------
    pygeoapi's documentation, "Configuration" and "Publishing processes via OGC API - Processes".
    """
    import yaml  # only who comes from pygeoapi needs it

    try:
        document = yaml.safe_load(_with_variables(text, environ))
    except yaml.YAMLError as error:
        raise InvalidSetting("--config", f"the file is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidSetting("--config", "the file must be a mapping of sections")
    return _tables_of(document)


def _with_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with ``${NAME}`` and ``${NAME:-default}`` replaced, as pygeoapi does."""

    def replaced(match: re.Match[str]) -> str:
        name, has_default, default = match[1], match[2], match[3]
        if name in environ:
            return environ[name]
        if has_default:
            return default
        raise InvalidSetting("--config", f"variable {name!r} is used in the file, but not set")

    lines = (line if line.lstrip().startswith("#") else _VARIABLE.sub(replaced, line) for line in text.splitlines())
    return "\n".join(lines)


def _tables_of(document: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    warnings: list[str] = []
    tables: dict[str, Any] = {name: dict(_mapping(document, name)) for name in document if name in _OURS_ALONE}
    server = _mapping(document, "server")
    tables["server"] = _server_of(server, document)
    for section, values in _manager_of(server.get("manager"), warnings).items():
        tables[section] = {**values, **tables.get(section, {})}
    processes = dict(_mapping(document, "processes"))
    resources = _mapping(document, "resources")
    processes |= {
        name: one for name, one in resources.items() if isinstance(one, Mapping) and one.get("type") == "process"
    }
    if others := [name for name in resources if name not in processes]:
        warnings.append(f"only processes are served; left out: {', '.join(others)}")
    tables["processes"] = {
        name: _process_of(name, value) if isinstance(value, Mapping) else value for name, value in processes.items()
    }
    unused = [f"server.{name}" for name in server if name not in _SERVER_KEYS]
    unused += [name for name in document if name not in {*_OURS_ALONE, "server", "processes", "resources", "metadata"}]
    if unused:
        warnings.append(f"not used here: {', '.join(unused)}")
    return tables, tuple(warnings)


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name) or {}
    if not isinstance(value, Mapping):
        raise InvalidSetting(name, "must be a mapping")
    return value


def _server_of(server: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in _mapping(server, "bind").items() if name in {"host", "port"}}
    if isinstance(url := server.get("url"), str) and not _is_bare_loopback(url):
        values["public_url"] = url.rstrip("/")
    if isinstance(server.get("cors"), bool):
        values["cors_origins"] = ["*"] if server["cors"] else []
    identification = _mapping(_mapping(document, "metadata"), "identification")
    for name in ("title", "description"):
        if text := _in_one_language(identification.get(name)):
            values[name] = text
    return values


def _is_bare_loopback(url: str) -> bool:
    """Whether an address is only this machine itself, which is no public address: the request knows better."""
    parts = urlsplit(url)
    return parts.hostname in {"localhost", "127.0.0.1", "0.0.0.0", "::1"} and parts.path in {"", "/"}  # noqa: S104 - compared


def _in_one_language(text: Any) -> str:
    if isinstance(text, Mapping):
        text = text.get("en") or next(iter(text.values()), "")
    return text if isinstance(text, str) else ""


def _manager_of(manager: Any, warnings: list[str]) -> dict[str, dict[str, Any]]:
    """Return what a pygeoapi process manager is here: a ledger and a storage folder."""
    if manager is None:
        return {}
    if not isinstance(manager, Mapping) or not isinstance(manager.get("name"), str):
        raise InvalidSetting("server.manager", "must be a mapping with a name")
    name, connection = manager["name"], manager.get("connection")
    tables: dict[str, dict[str, Any]] = {}
    if name == "TinyDB":
        warnings.append("manager TinyDB is replaced by the ledger in the home folder; its jobs are not taken over")
    elif name == "PostgreSQL":
        tables["database"] = {"url": _postgresql_url(connection)}
    else:
        raise InvalidSetting("server.manager.name", f"manager {name!r} is not known here; use TinyDB or PostgreSQL")
    if manager.get("output_dir"):
        tables["storage"] = {"folder": str(manager["output_dir"])}
    return tables


def _postgresql_url(connection: Any) -> str:
    if isinstance(connection, str) and urlsplit(connection).scheme.partition("+")[0] in {"postgresql", "postgres"}:
        return urlunsplit(urlsplit(connection)._replace(scheme="postgresql"))
    if not isinstance(connection, Mapping) or not connection.get("host"):
        raise InvalidSetting("server.manager.connection", "needs host, port, database, user, password, or an address")
    user, password, database = (
        quote(str(connection.get(name) or ""), safe="") for name in ("user", "password", "database")
    )
    who = f"{user}:{password}@" if password else f"{user}@" if user else ""
    return f"postgresql://{who}{connection['host']}:{connection.get('port', 5432)}/{database or user}"


def _process_of(name: str, process: Mapping[str, Any]) -> dict[str, Any]:
    processor = process.get("processor")
    values = {key: process[key] for key in _PROCESS_KEYS if key in process}
    if processor is not None and (not isinstance(processor, Mapping) or not isinstance(processor.get("name"), str)):
        raise InvalidSetting(f"processes.{name}.processor", "must be a mapping with a name")
    if not values:
        raise InvalidSetting(f"processes.{name}", "names no processor")
    return values
