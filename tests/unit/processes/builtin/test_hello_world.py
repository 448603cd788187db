from __future__ import annotations

import pytest

from graticule.processes.builtin.hello_world import hello_world
from graticule.processes.process import OutputValue


@pytest.mark.parametrize(
    ("inputs", "greeting"),
    [
        ({"name": "World"}, "Hello World!"),
        ({"name": "World", "message": "How are you?"}, "Hello World! How are you?"),
        ({"name": "Åsa", "message": ""}, "Hello Åsa!"),
    ],
    ids=["a name", "and a message", "an empty message"],
)
def test_the_greeting_is_one_string_in_the_output_echo(run, inputs, greeting):
    assert run(hello_world, **inputs) == {"echo": OutputValue(value=greeting)}


def test_only_the_name_is_required():
    required = [name for name, one in hello_world.description.inputs.items() if one.min_occurs]

    assert required == ["name"]


def test_the_function_can_still_be_called():
    assert hello_world("you") == "Hello you!"
