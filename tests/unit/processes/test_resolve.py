"""What was sent becomes what a process takes; what only the bytes can tell is told here."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from graticule import process
from graticule.data.tiff import needed_bytes
from graticule.errors import Fault, InvalidInputs
from graticule.ogc.common import GEOJSON, GEOTIFF
from graticule.ogc.processes import Input, ProcessDescription
from graticule.processes.inputs import ReferencePolicy
from graticule.processes.process import InputValue
from graticule.processes.resolve import ReadInPlace, RemoteInput, resolve_inputs
from graticule.processes.values import File, Raster

TIFF = {"type": "string", "contentEncoding": "binary", "contentMediaType": GEOTIFF}
PNG = {"type": "string", "contentEncoding": "binary", "contentMediaType": "image/png"}
CSV = {"type": "string", "contentMediaType": "text/csv"}
GEOMETRY = {"type": "object", "format": "geojson-geometry", "contentMediaType": GEOJSON}
BOW = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}
ANY_GEOJSON = Input(
    schema={
        "oneOf": [
            {"type": "object", "format": f"geojson-{kind}", "contentMediaType": GEOJSON}
            for kind in ("geometry", "feature", "feature-collection")
        ]
    }
)
HTML = b"<!DOCTYPE html><html><body>Not found</body></html>"


def _feature(geometry: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": geometry}


def _collection(*geometries: dict[str, Any]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [_feature(one) for one in geometries]}


@dataclass
class Site:
    """A server of some files: path to media type and content; with or without ranges."""

    port: int
    files: dict[str, tuple[str, bytes]]
    seen: list[str | None]
    ranges: bool = True

    def put(self, path: str, content: bytes, media_type: str = "application/octet-stream") -> str:
        self.files[f"/{path}"] = (media_type, content)
        return f"http://127.0.0.1:{self.port}/{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("range") if found.ranges else None
            found.seen.append(self.headers.get("range"))
            if self.path not in found.files:
                self.send_error(404)
                return
            media_type, content = found.files[self.path]
            begin, last = 0, len(content) - 1
            if asked is not None:
                begin, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
                last = min(end, last)
            self.send_response(200 if asked is None else 206)
            if asked is not None:
                self.send_header("Content-Range", f"bytes {begin}-{last}/{len(content)}")
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(last + 1 - begin))
            self.end_headers()
            self.wfile.write(content[begin : last + 1])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = Site(server.server_port, {}, [])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A GeoTIFF of 600 by 600 pixels that does not compress."""
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    values = np.random.default_rng(1).integers(0, 255, (1, 600, 600), dtype="uint8")
    profile = {"driver": "GTiff", "width": 600, "height": 600, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", transform=rasterio.Affine(1, 0, 10, 0, -1, 50), tiled=True, **profile) as dataset:
        dataset.write(values)
    return path.read_bytes()


@pytest.fixture
def resolve(tmp_path: Path) -> Callable[..., Any]:
    def resolve_one(given: Any, description: Input, **policy: Any) -> Any:
        described = ProcessDescription(id="p", version="1", inputs={"x": description})
        chosen = ReferencePolicy(**{"allow_private_addresses": True, "timeout_s": 5, **policy})
        return resolve_inputs(described, {"x": given}, policy=chosen, folder=tmp_path)["x"]

    return resolve_one


def _faults(resolve: Callable[..., Any], *arguments: Any, **policy: Any) -> tuple[Fault, ...]:
    with pytest.raises(InvalidInputs) as caught:
        resolve(*arguments, **policy)
    return caught.value.faults


# --- in the request ------------------------------------------------------------------------------------------------


def test_a_literal_is_given_on(resolve: Callable[..., Any]) -> None:
    assert resolve("a", Input(schema={"type": "string"})) == InputValue(pointer="/inputs/x", value="a")


def test_several_values_are_a_list(resolve: Callable[..., Any]) -> None:
    several = Input(schema={"type": "number"}, max_occurs="unbounded")

    assert [one.value for one in resolve([1, {"value": 2}], several)] == [1, 2]


def test_binary_is_decoded(resolve: Callable[..., Any]) -> None:
    pdf = Input(schema={"type": "string", "contentEncoding": "binary", "contentMediaType": "application/pdf"})

    assert resolve("AAE=", pdf) == InputValue(pointer="/inputs/x", value=b"\x00\x01", media_type="application/pdf")


def test_inline_content_chooses_its_alternative(resolve: Callable[..., Any], tiff: bytes) -> None:
    either = Input(schema={"oneOf": [PNG, TIFF]})

    assert resolve(base64.b64encode(tiff).decode(), either).media_type == GEOTIFF


@pytest.mark.parametrize("media_type", ["image/tiff", "IMAGE/TIFF; application=GeoTIFF", "image/geotiff", None])
def test_a_geotiff_may_be_called_a_tiff(resolve: Callable[..., Any], tiff: bytes, media_type: str | None) -> None:
    sent = {"value": base64.b64encode(tiff).decode(), "mediaType": media_type}

    assert resolve(sent, Input(schema=TIFF)).value == tiff


def test_inline_content_of_another_kind_is_named(resolve: Callable[..., Any]) -> None:
    faults = _faults(resolve, {"value": base64.b64encode(HTML).decode()}, Input(schema=TIFF))

    assert faults[0].pointer == "/inputs/x/value"
    assert "an HTML page" in faults[0].message


def test_a_default_of_the_schema_is_applied(tmp_path: Path) -> None:
    described = ProcessDescription(
        id="p", version="1", inputs={"x": Input(schema={"type": "number", "default": 5}, min_occurs=0)}
    )

    assert resolve_inputs(described, {}, policy=ReferencePolicy(), folder=tmp_path) == {
        "x": InputValue(pointer="/inputs/x", value=5)
    }


@pytest.mark.parametrize(
    ("geometry", "pointer"),
    [
        pytest.param(BOW, "/inputs/x/value/coordinates/0", id="polygon that crosses itself"),
        pytest.param(
            {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"], BOW["coordinates"]]},
            "/inputs/x/value/coordinates/1/0",
            id="part that crosses itself",
        ),
        pytest.param(
            {"type": "Polygon", "coordinates": [*SQUARE["coordinates"], [[1, 1], [9, 1], [9, 9], [1, 1]]]},
            "/inputs/x/value/coordinates",
            id="two rings that cross each other",
        ),
        pytest.param(
            {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0, 0]}, BOW]},
            "/inputs/x/value/geometries/1/coordinates/0",
            id="inside a collection",
        ),
        pytest.param(
            {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]},
            "/inputs/x/value/coordinates/0",
            id="ring that is not closed",
        ),
    ],
)
def test_a_geometry_that_makes_no_sense_is_named(
    resolve: Callable[..., Any], geometry: dict[str, Any], pointer: str
) -> None:
    assert [fault.pointer for fault in _faults(resolve, {"value": geometry}, Input(schema=GEOMETRY))] == [pointer]


def test_a_ring_that_is_too_short_is_named_with_what_it_needs(resolve: Callable[..., Any]) -> None:
    triangle = {"type": "Polygon", "coordinates": [*SQUARE["coordinates"], [[1, 1], [2, 1], [1, 1]]]}

    [fault] = _faults(resolve, {"value": triangle}, ANY_GEOJSON)

    assert fault.pointer == "/inputs/x/value/coordinates/1"
    assert "inner ring 1 has 3 positions; at least 4 are needed" in fault.message


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        pytest.param(BOW, "/coordinates/0", id="geometry"),
        pytest.param(_feature(BOW), "/geometry/coordinates/0", id="feature"),
        pytest.param(_collection(SQUARE, BOW), "/features/1/geometry/coordinates/0", id="feature collection"),
    ],
)
def test_of_several_kinds_of_geojson_the_one_that_was_sent_is_blamed(
    resolve: Callable[..., Any], site: Site, sent: dict[str, Any], pointer: str
) -> None:
    href = site.put("a.json", json.dumps(sent).encode(), GEOJSON)

    inline = _faults(resolve, {"value": sent}, ANY_GEOJSON)
    referred = _faults(resolve, {"href": href}, ANY_GEOJSON)

    assert [fault.pointer for fault in inline] == [f"/inputs/x/value{pointer}"]
    assert [fault.pointer for fault in referred] == [f"/inputs/x/href{pointer}"]
    assert "it crosses itself at 1 1" in inline[0].message


def test_a_self_crossing_is_located(resolve: Callable[..., Any]) -> None:
    assert "it crosses itself at 1 1" in _faults(resolve, {"value": BOW}, Input(schema=GEOMETRY))[0].message


def test_a_bbox_in_an_unknown_crs_is_named(resolve: Callable[..., Any]) -> None:
    box = Input(schema={"allOf": [{"format": "ogc-bbox"}]})

    assert _faults(resolve, {"bbox": [0, 0, 1, 1], "crs": "EPSG:999999"}, box)[0].pointer == "/inputs/x/crs"
    assert resolve({"bbox": [0, 0, 1, 1], "crs": "http://www.opengis.net/def/crs/EPSG/0/3857"}, box).value["crs"]


# --- by reference --------------------------------------------------------------------------------------------------


def test_a_reference_becomes_a_file(resolve: Callable[..., Any], site: Site, tiff: bytes, tmp_path: Path) -> None:
    value = resolve({"href": site.put("a.tif", tiff)}, Input(schema=TIFF))

    assert value.file.read_bytes() == tiff
    assert value.file.parent == tmp_path / "inputs"
    assert (value.pointer, value.media_type) == ("/inputs/x/href", GEOTIFF)


def test_json_by_reference_is_read_and_checked(resolve: Callable[..., Any], site: Site) -> None:
    numbers = Input(schema={"type": "array", "items": {"type": "number"}})

    assert resolve({"href": site.put("a.json", b"[1, 2]", "application/json")}, numbers).value == [1, 2]
    assert _faults(resolve, {"href": site.put("b.json", b'[1, "a"]')}, numbers)[0].pointer == "/inputs/x/href/1"


def test_text_by_reference_is_a_string(resolve: Callable[..., Any], site: Site) -> None:
    assert resolve({"href": site.put("a", b"hello", "text/plain")}, Input(schema={"type": "string"})).value == "hello"
    assert resolve({"href": site.put("b", b"a,b", "text/csv")}, Input(schema=CSV)).value == "a,b"


def test_a_server_that_misnames_a_raster_is_forgiven(resolve: Callable[..., Any], site: Site, tiff: bytes) -> None:
    assert resolve({"href": site.put("a", tiff, "text/html")}, Input(schema=TIFF)).media_type == GEOTIFF


@pytest.mark.parametrize(
    ("content", "media_type", "schema", "words"),
    [
        pytest.param(HTML, "text/html", TIFF, "an HTML page (sent as text/html)", id="HTML page for a GeoTIFF"),
        pytest.param(HTML, "image/tiff", TIFF, "an HTML page", id="HTML page that calls itself one"),
        pytest.param(b"", "image/tiff", TIFF, "empty", id="empty"),
        pytest.param(
            b"what",
            "image/tiff",
            TIFF,
            "sent as image/tiff, but by its first bytes it is of another kind",
            id="no TIFF",
        ),
        pytest.param(b"\x89PNG\r\n\x1a\n", "image/png", TIFF, "image/png", id="PNG for a GeoTIFF"),
        pytest.param(HTML, "text/html", CSV, "text/csv", id="HTML page for a table"),
        pytest.param(HTML, "text/html", GEOMETRY, "where JSON is wanted", id="HTML page for a geometry"),
        pytest.param(b"\xff\xfe", "text/csv", CSV, "UTF-8", id="no text"),
        pytest.param(b"[" * 100000, "application/json", GEOMETRY, "nests deeper than", id="deeply nested JSON"),
        pytest.param(b'{"a": 1e999}', "application/json", GEOMETRY, "a number that is larger", id="number too large"),
        pytest.param(b"[" + b"9" * 5000 + b"]", GEOJSON, GEOMETRY, "a number that is larger", id="too many digits"),
        pytest.param(b'{"a": ', "application/json", GEOMETRY, "begins like JSON, but is none", id="cut JSON"),
    ],
)
def test_content_of_another_kind_is_named(
    resolve: Callable[..., Any], site: Site, content: bytes, media_type: str, schema: dict[str, Any], words: str
) -> None:
    faults = _faults(resolve, {"href": site.put("a", content, media_type)}, Input(schema=schema))

    assert [fault.pointer for fault in faults] == ["/inputs/x/href"]
    assert words in faults[0].message


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kind", [Input, ReadInPlace])
@pytest.mark.parametrize(
    ("start", "words"),
    [pytest.param(HTML, "an HTML page", id="HTML"), pytest.param(b"", "of another kind", id="zeros")],
)
def test_what_does_not_begin_like_a_raster_is_not_fetched_whole(
    resolve: Callable[..., Any],
    site: Site,
    tmp_path: Path,
    kind: type[Input],
    *,
    ranges: bool,
    start: bytes,
    words: str,
) -> None:
    site.ranges = ranges
    href = site.put("a.tif", start + bytes(8 << 20), GEOTIFF)

    [fault] = _faults(resolve, {"href": href}, kind(schema={"oneOf": [PNG, TIFF]}))

    assert words in fault.message
    assert len(site.seen) == 1
    assert sum(path.stat().st_size for path in tmp_path.rglob("x-*")) < 1 << 20


def test_content_that_may_be_something_else_than_a_raster_is_fetched_whole(
    resolve: Callable[..., Any], site: Site
) -> None:
    table = b"a,b\n" * 100_000

    value = resolve({"href": site.put("a.csv", table, "text/csv")}, Input(schema={"oneOf": [TIFF, CSV]}))

    assert value.value == table.decode()


@pytest.mark.parametrize("kind", [Input, ReadInPlace])
def test_a_truncated_raster_is_named(resolve: Callable[..., Any], site: Site, tiff: bytes, kind: type[Input]) -> None:
    faults = _faults(resolve, {"href": site.put("a.tif", tiff[: len(tiff) // 2])}, kind(schema=TIFF))

    assert "cut short" in faults[0].message


@pytest.mark.parametrize("kind", [Input, ReadInPlace])
def test_a_reference_to_nothing_is_named(resolve: Callable[..., Any], site: Site, kind: type[Input]) -> None:
    faults = _faults(resolve, {"href": f"http://127.0.0.1:{site.port}/none"}, kind(schema=TIFF))

    assert faults == (Fault("/inputs/x/href", "127.0.0.1 answered 404 Not Found; check the href"),)


def test_a_private_address_is_refused_again(resolve: Callable[..., Any], site: Site) -> None:
    faults = _faults(resolve, {"href": site.put("a", b"")}, Input(schema=TIFF), allow_private_addresses=False)

    assert "private" in faults[0].message
    assert site.seen == []


def test_all_references_are_tried_and_all_faults_named(resolve: Callable[..., Any], site: Site) -> None:
    several = Input(schema=TIFF, max_occurs="unbounded")
    sent = [{"href": site.put("a", HTML)}, {"href": f"http://127.0.0.1:{site.port}/none"}]

    assert [fault.pointer for fault in _faults(resolve, sent, several)] == ["/inputs/x/0/href", "/inputs/x/1/href"]


def test_an_own_file_is_used_where_it_is(resolve: Callable[..., Any], tmp_path: Path, tiff: bytes) -> None:
    (tmp_path / "own.tif").write_bytes(tiff)

    value = resolve(
        {"href": "/files/1/own.tif"}, Input(schema=TIFF), local_files={"/files/1/own.tif": str(tmp_path / "own.tif")}
    )

    assert value.file == tmp_path / "own.tif"


def test_an_own_file_that_is_gone_is_named(resolve: Callable[..., Any]) -> None:
    faults = _faults(resolve, {"href": "/files/1/a"}, Input(schema=TIFF), local_files={"/files/1/a": "/nowhere/a"})

    assert "upload it again" in faults[0].message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("", "leads to a folder; name one of the files in it", id="folder"),
        pytest.param("none.tif", "no such file on this machine; check the path", id="missing"),
    ],
)
def test_a_file_reference_that_leads_to_no_file_is_named(
    resolve: Callable[..., Any], tmp_path: Path, name: str, words: str
) -> None:
    href = (tmp_path / name).as_uri()

    [fault] = _faults(resolve, {"href": href}, Input(schema=TIFF), allowed_folders=(str(tmp_path),))

    assert fault.pointer == "/inputs/x/href"
    assert words in fault.message


def test_a_name_cannot_lead_out_of_the_folder(site: Site, tmp_path: Path, tiff: bytes) -> None:
    described = ProcessDescription(id="p", version="1", inputs={"../../x": Input(schema=TIFF)})
    policy = ReferencePolicy(allow_private_addresses=True)
    sent = {"../../x": {"href": site.put("a.%2e%2e%2fb", tiff)}}

    value = resolve_inputs(described, sent, policy=policy, folder=tmp_path)["../../x"]

    assert isinstance(value, InputValue)
    assert value.file is not None
    assert value.file.parent == tmp_path / "inputs"


# --- rasters where they are ------------------------------------------------------------------------------------------


def test_a_raster_stays_where_it_is(resolve: Callable[..., Any], site: Site, tiff: bytes) -> None:
    href = site.put("a.tif", tiff)

    value = resolve({"href": href}, ReadInPlace(schema=TIFF))

    assert isinstance(value, RemoteInput)
    assert (value.file, value.href) == (None, href)
    assert site.seen == ["bytes=0-65535"]


def test_a_raster_comes_whole_from_a_server_without_ranges(
    resolve: Callable[..., Any], site: Site, tiff: bytes
) -> None:
    site.ranges = False

    value = resolve({"href": site.put("a.tif", tiff)}, ReadInPlace(schema=TIFF))

    assert value.file.read_bytes() == tiff
    assert len(site.seen) == 1


def test_a_process_reads_a_remote_raster_in_parts(site: Site, tiff: bytes, tmp_path: Path) -> None:
    found: list[Any] = []

    @process
    def corner(dem: Raster) -> None:
        with dem.open() as dataset:
            found.append(dataset.read(1, window=((0, 5), (0, 5))))

    policy = ReferencePolicy(allow_private_addresses=True)
    sent = {"dem": {"href": site.put("a.tif", tiff)}}
    inputs = resolve_inputs(corner.description, sent, policy=policy, folder=tmp_path)
    corner.run(inputs, _Context(tmp_path))

    with rasterio.MemoryFile(tiff) as memory, memory.open() as dataset:
        assert (found[0] == dataset.read(1, window=((0, 5), (0, 5)))).all()
    fetched = sum(65536 for asked in site.seen if asked)
    assert fetched < len(tiff)


def test_a_remote_raster_that_goes_away_is_named(site: Site, tiff: bytes, tmp_path: Path) -> None:
    @process
    def whole(dem: Raster) -> None:
        with dem.open() as dataset:
            site.files.clear()
            dataset.read()

    policy = ReferencePolicy(allow_private_addresses=True)
    sent = {"dem": {"href": site.put("a.tif", tiff)}}
    inputs = resolve_inputs(whole.description, sent, policy=policy, folder=tmp_path)
    with pytest.raises(InvalidInputs) as caught:
        whole.run(inputs, _Context(tmp_path))

    assert caught.value.faults == (Fault("/inputs/dem/href", "127.0.0.1 answered 404 Not Found; check the href"),)


def test_a_file_by_reference_is_a_file(site: Site, tmp_path: Path) -> None:
    found: list[str] = []

    @process
    def first(table: File) -> None:
        found.append(table.read_text())

    sent = {"table": {"href": site.put("a.csv", b"a,b", "text/csv")}}
    policy = ReferencePolicy(allow_private_addresses=True)
    first.run(resolve_inputs(first.description, sent, policy=policy, folder=tmp_path), _Context(tmp_path))

    assert found == ["a,b"]


@dataclass
class _Context:
    folder: Path
    stopping: bool = False
    wanted: frozenset[str] = frozenset()

    def report(self, progress: int, message: str = "") -> None: ...

    def wanted_media_type(self, output_id: str) -> str | None: ...

    def log(self, step: str) -> Any: ...


# --- whole rasters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"COMPRESS": "DEFLATE"}, {"ENDIANNESS": "BIG"}], ids=str)
def test_a_tiff_knows_how_long_it_must_be(tmp_path: Path, options: dict[str, str]) -> None:
    profile = {"driver": "GTiff", "width": 300, "height": 300, "count": 2, "dtype": "uint16", "crs": "EPSG:4326"}
    with rasterio.open(
        tmp_path / "a.tif", "w", transform=rasterio.Affine(1, 0, 10, 0, -1, 50), **profile, **options
    ) as dataset:
        dataset.write(np.arange(180000, dtype="uint16").reshape(2, 300, 300))
    content = (tmp_path / "a.tif").read_bytes()

    assert needed_bytes(BytesIO(content)) == len(content)
    assert all(needed_bytes(BytesIO(content[:cut])) > cut for cut in (len(content) - 1, 1000, 50, 20))


def test_what_is_no_tiff_needs_nothing() -> None:
    assert needed_bytes(BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(20))) == 0
