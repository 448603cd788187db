from __future__ import annotations

import base64

import pytest
from rasterio.io import MemoryFile

from graticule.processes.builtin.echo_all import EchoAll
from graticule.processes.process import InputValue, OutputValue, Process

ECHO_ALL = EchoAll()


def test_echo_all_is_a_process():
    assert isinstance(ECHO_ALL, Process)


def test_every_input_but_the_pause_is_an_output_too():
    assert set(ECHO_ALL.description.inputs) - {"pause"} == set(ECHO_ALL.description.outputs)


def test_every_input_is_optional():
    assert all(one.min_occurs == 0 for one in ECHO_ALL.description.inputs.values())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_picture_of_the_example_is_a_png_of_one_pixel():
    picture = base64.b64decode(ECHO_ALL.description.examples[0].inputs["image"]["value"])

    with MemoryFile(picture) as file, file.open() as dataset:
        assert dataset.driver == "PNG"
        assert dataset.read().shape == (4, 1, 1)


def test_values_of_every_kind_come_back(run):
    values = {
        "string": "Grüße",
        "integer": 42,
        "boolean": False,
        "array": [1, 2.5],
        "object": {"name": "box"},
        "octets": b"\x00\x01",
        "geometry": {"type": "Point", "coordinates": [8.5, 47.4]},
    }

    outputs = run(ECHO_ALL, **values)

    assert {name: output.value for name, output in outputs.items()} == values


def test_several_values_come_back_as_several(run):
    assert run(ECHO_ALL, words=["one", "two"])["words"] == [OutputValue(value="one"), OutputValue(value="two")]


def test_content_in_a_file_comes_back_as_a_file_of_the_job(run, context, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")

    outputs = run(ECHO_ALL, image=InputValue(pointer="/inputs/image/href", file=picture, media_type="image/png"))

    assert outputs["image"].file.parent == context.folder
    assert outputs["image"].file.read_bytes() == b"\x89PNG"
    assert picture.exists()


def test_a_reference_comes_back_as_a_link(run, tmp_path):
    content = tmp_path / "a.bin"
    content.write_bytes(b"1")
    href = "https://example.org/a.bin"

    outputs = run(
        ECHO_ALL,
        reference=InputValue(pointer="/inputs/reference/href", href=href, file=content, media_type="image/png"),
    )

    assert outputs == {"reference": OutputValue(href=href, media_type="image/png")}
