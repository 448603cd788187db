"""Which of several forms a value was meant to have, told by what is wrong with it in each.

Loaded by the web process; plain Python only.
"""

from __future__ import annotations

from collections.abc import Sequence

from graticule.errors import Fault


def meant(branches: Sequence[Sequence[Fault]], place: str) -> list[Sequence[Fault]]:
    """
    Return the branches whose faults are worth telling of a value that fits none; several where none is nearer.

    A branch whose ``type`` is that of the value comes before one with another; then the one that holds for more of the
    value does, which its faults show by lying deeper.

    Parameters
    ----------
    branches : Sequence[Sequence[Fault]]
        What is wrong with the value as each of the forms, at least one fault each.
    place : str
        Where the value stands, as a JSON pointer.

    Returns
    -------
    list[Sequence[Fault]]
        In their order.
    """
    ranks = [_rank(faults, place) for faults in branches]
    return [faults for faults, rank in zip(branches, ranks, strict=True) if rank == max(ranks)]


def _rank(faults: Sequence[Fault], place: str) -> tuple[bool, int]:
    is_of_type = all(fault.pointer != f"{place}/type" for fault in faults)
    return is_of_type, min(fault.pointer.count("/") for fault in faults)
