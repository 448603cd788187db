"""Inputs that are secrets: what is shown of them in place of what was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from graticule.errors import Fault
from graticule.ogc.processes import ProcessDescription
from graticule.processes.validation import escape

MASK = "********"


def hides(description: ProcessDescription | None, name: str) -> bool:
    """Return whether values of an input are hidden: it is declared as a secret, or nobody knows any more.

    Parameters
    ----------
    description : ProcessDescription, optional
        The process; None: it is not published any more.
    name : str
        The input.
    """
    described = description.inputs.get(name) if description is not None else None
    return described is None or _is_secret(described.schema)


def shown_inputs(inputs: Mapping[str, Any], description: ProcessDescription | None) -> dict[str, Any]:
    """Return the inputs of a request as they may be shown: secrets are masked, all else stays as it is.

    Parameters
    ----------
    inputs : mapping
        Values by input, decoded or still as they came.
    description : ProcessDescription, optional
        The process; None: it is not published any more.
    """
    return {name: _masked(given) if hides(description, name) else given for name, given in inputs.items()}


def mask_faults(inputs: Mapping[str, Any], description: ProcessDescription) -> Iterator[Fault]:
    """Yield a fault for each secret that is the mask: it was read somewhere, and is not what was sent once."""
    for name, given in inputs.items():
        if name in description.inputs and hides(description, name) and _holds_mask(given):
            message = f"{MASK!r} is what is shown in place of a secret; send the secret itself"
            yield Fault(f"/inputs/{escape(name)}", message)


def _is_secret(schema: Any) -> bool:
    """Whether a schema says anywhere that what it is about is not to be shown."""
    if isinstance(schema, Mapping):
        marked = schema.get("writeOnly") is True or schema.get("format") == "password"
        return marked or any(map(_is_secret, schema.values()))
    return isinstance(schema, list) and any(map(_is_secret, schema))


def _masked(given: Any) -> Any:
    value = msgspec.json.decode(given) if isinstance(given, msgspec.Raw) else given
    return [_one_masked(one) for one in value] if isinstance(value, list) else _one_masked(value)


def _one_masked(value: Any) -> Any:
    return {"value": MASK} if isinstance(value, dict) and "value" in value else MASK


def _holds_mask(given: Any) -> bool:
    values = given if isinstance(given, list) else [given]
    return any((one.get("value") if isinstance(one, dict) else one) == MASK for one in values)
