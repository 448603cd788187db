"""Lay a JSON merge patch over a document (RFC 7396)."""

from __future__ import annotations

import msgspec

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def merge_patch(target: bytes, patch: bytes) -> bytes:
    """Return a JSON document with a patch laid over it; what is not changed stays as it was written, digit by digit.

    Parameters
    ----------
    target : bytes
        The document; empty if there is none.
    patch : bytes
        The patch: objects are merged, ``null`` removes a member, anything else replaces.

    References
    ----------
    RFC 7396, section 2.

    Examples
    --------
    >>> merge_patch(b'{"a": 1.10, "b": {"c": 2}}', b'{"b": {"c": null, "d": []}}')
    b'{"a":1.10,"b":{"d":[]}}'
    """
    if not _is_object(patch):
        return patch
    merged = _members.decode(target) if _is_object(target) else {}
    for name, value in _members.decode(patch).items():
        if bytes(value) == b"null":
            merged.pop(name, None)
        else:
            merged[name] = msgspec.Raw(merge_patch(bytes(merged.get(name, b"")), bytes(value)))
    return msgspec.json.encode(merged)


def _is_object(document: bytes) -> bool:
    return document.lstrip().startswith(b"{")
