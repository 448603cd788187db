"""The smallest process."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from graticule import process


@process(
    keywords=["hello", "example"],
    outputs={"echo": "The greeting, one string."},
    examples=[
        {"title": "Greet the world", "inputs": {"name": "World"}},
        {"title": "Say something too", "inputs": {"name": "Gerardus", "message": "Nice map."}},
    ],
)
def hello_world(
    name: Annotated[str, Field(max_length=1000)], message: Annotated[str, Field(max_length=10000)] = ""
) -> str:
    """Say hello.

    Greets by name and adds a message if there is one. The shortest process there is: for first steps, and for measuring
    what running a process costs.

    Parameters
    ----------
    name : str
        Who is greeted.
    message : str
        What else is said.
    """
    return f"Hello {name}! {message}".strip()
