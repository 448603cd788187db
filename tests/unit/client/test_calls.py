"""Pure parts of the calls: what is asked, and how answers are read."""

import pytest

from graticule.client.calls import (
    execute_process,
    file_name,
    free_path,
    get_results,
    media_type_of,
    suffix_of,
    waiting,
)
from graticule.client.transport import Pause, Reply, Request, Target
from graticule.ogc.jobs import StatusInfo


def reply(content: bytes, media_type: str, **headers: str) -> Reply:
    return Reply(status=200, url="http://h/x", headers={"content-type": media_type, **headers}, content=content)


@pytest.mark.parametrize(
    ("content", "media_type", "expected"),
    [
        (b'"hi"', "application/json", "hi"),
        (b'{"type":"Point"}', "application/geo+json", {"type": "Point"}),
        (b"hi", "text/plain; charset=utf-8", "hi"),
        (b"II*", "image/tiff; application=geotiff", b"II*"),
    ],
    ids=["JSON", "GeoJSON", "text", "binary"],
)
def test_a_single_output_that_comes_as_it_is_gets_the_name_that_was_asked_for(content, media_type, expected):
    call = get_results("j1", ["out"])

    assert call.read(reply(content, media_type))["out"] == expected


def test_an_execution_with_no_output_wanted_gives_no_results():
    call = execute_process("p", {"inputs": {}, "outputs": {}}, {})

    assert dict(call.read(Reply(status=204, url="http://h/x", headers={}))) == {}


def test_identifiers_are_quoted_in_paths():
    assert get_results("a/../b").request.path == "/jobs/a%2F..%2Fb/results"


def test_the_service_decides_how_often_it_is_asked():
    steps = waiting("j1", timeout=None, on_progress=None)
    call = next(steps)
    polled = call.read(reply(b'{"id":"j1","status":"running"}', "application/json", **{"retry-after": "7"}))

    assert steps.send(polled) == Pause(7)


def test_without_a_word_of_the_service_the_client_asks_less_and_less_often():
    steps, pauses = waiting("j1", timeout=None, on_progress=None), []
    polled = next(steps).read(reply(b'{"id":"j1","status":"running"}', "application/json"))
    for _ in range(30):
        pauses.append(steps.send(polled).seconds)
        next(steps)

    assert pauses[0] < 0.1
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0


def test_a_job_that_has_ended_needs_no_pause():
    steps = waiting("j1", timeout=None, on_progress=None)
    polled = next(steps).read(reply(b'{"id":"j1","status":"failed"}', "application/json"))

    with pytest.raises(StopIteration) as end:
        steps.send(polled)

    assert end.value.value == StatusInfo(id="j1", status="failed")


def test_the_token_stays_with_the_service():
    target = Target(url="http://h:8080", token="s3cret")

    own, other = (target.headers(Request(path="/x"), url) for url in ("http://h:8080/x", "http://elsewhere/x"))

    assert own["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in other


@pytest.mark.parametrize(
    ("href", "media_type", "expected"),
    [
        ("http://h/jobs/j/results/shade", "image/tiff; application=geotiff", "shade.tif"),
        ("http://h/files/a/my%20dem.tif?x=1", None, "my_dem.tif"),
        ("http://h/a/..%2F..%2Fetc%2Fpass.wd", None, "_.._etc_pass.wd"),
        ("", "application/geo+json", "shade.geojson"),
        ("", None, "shade"),
    ],
)
def test_a_file_is_named_after_its_address_or_its_output(href, media_type, expected):
    assert file_name("shade", href=href, media_type=media_type) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("shade.tif", "shade.tif"),
        ("C:\\data\\shade.tif", "shade.tif"),
        ("/etc/passwd", "passwd"),
        ("..", "result"),
        ("", "dem.tif"),
        ("a" * 300 + ".tif", "a" * 80 + ".tif"),
    ],
)
def test_the_name_that_the_service_gives_comes_first(told, expected):
    assert file_name("shade", told=told, href="http://h/files/a/dem.tif") == expected


def test_a_single_output_that_comes_as_it_is_keeps_its_file_name():
    call = execute_process("p", {"inputs": {}}, {})

    results = call.read(reply(b"II*", "image/tiff", **{"content-disposition": 'inline; filename="shade.tif"'}))

    assert results.names == {"result": "shade.tif"}


def test_results_of_an_execution_know_where_each_output_stands():
    link = '<http://h/jobs/j1>; rel="monitor", <https://www.opengis.net/def/profile/OGC/0/ogc-results>; rel="profile"'

    results = execute_process("p", {"inputs": {}}, {}).read(reply(b'{"a": 1}', "application/json", link=link))

    assert results.href == "http://h/jobs/j1/results"


def test_a_free_path_is_taken_once(tmp_path):
    assert [free_path(tmp_path, "a.tif").name for _ in range(3)] == ["a.tif", "a-1.tif", "a-2.tif"]


def test_media_types_and_ends_of_names_speak_for_each_other():
    assert media_type_of("a.TIF") == "image/tiff; application=geotiff"
    assert suffix_of("application/geo+json; charset=utf-8") == ".geojson"
    assert media_type_of("a.unknown-end") == "application/octet-stream"
