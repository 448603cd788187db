"""A typed function becomes a process: what it says, what it takes, what it gives."""

# No `from __future__ import annotations` here: the annotations of functions inside tests must be real.
import dataclasses
import enum
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import pytest
import rasterio
from pydantic import BaseModel, Field

from graticule import COG, BoundingBox, Feature, File, Geometry, GeoTIFF, OutputFile, Raster, RunContext, Text, process
from graticule.errors import InvalidInputs, PluginNotLoaded, ProcessFault
from graticule.ogc.common import GEOTIFF
from graticule.ogc.processes import Example, Output, ProcessDescription
from graticule.processes.decorator import FunctionProcess, discover, find_named
from graticule.processes.inputs import InputChecker, ReferencePolicy
from graticule.processes.process import Inputs, InputValue, Outputs, OutputValue, Process
from graticule.processes.resolve import resolve_inputs
from graticule.processes.values import MediaType, OneValue


@dataclass
class Context:
    """A run context that only has a folder."""

    folder: Path
    stopping: bool = False
    wanted: frozenset[str] = frozenset()

    def report(self, progress: int, message: str = "") -> None: ...

    def wanted_media_type(self, output_id: str) -> str | None: ...

    def log(self, step: str) -> Any: ...


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path)


def _run(one: FunctionProcess[..., Any], context: Context, **inputs: Any) -> Outputs:
    """Run a process as the server does: check, resolve, run."""
    faults = InputChecker(one.description).check(inputs, None, ReferencePolicy())
    if faults:
        raise InvalidInputs(faults)
    resolved = resolve_inputs(one.description, inputs, policy=ReferencePolicy(), folder=context.folder)
    return one.run(resolved, context)


SAMPLE = '''
from pathlib import Path
from typing import Annotated
from pydantic import Field
from graticule import GeoTIFF, Raster, RunContext, process

@process
def add(a: float, b: Annotated[float, Field(ge=0)] = 1.0) -> float:
    """Add two numbers."""
    return a + b

@process(title="Hill shade", version="1.2.0")
def hillshade(dem: Raster, azimuth: Annotated[float, Field(ge=0, lt=360)] = 315.0, *, context: RunContext) -> GeoTIFF:
    """Shade a digital elevation model.

    Parameters
    ----------
    dem : Raster
        Elevation in metres.
    azimuth : float
        Direction of the light, degrees clockwise from north.
    """
    with dem.open() as source:                 # a rasterio dataset
        context.report(10, "reading")
        ...
    return GeoTIFF(context.folder / "shade.tif")
'''


@pytest.fixture(scope="module")
def sample() -> types.ModuleType:
    module = types.ModuleType("my_processes")
    sys.modules["my_processes"] = module
    exec(SAMPLE, vars(module))
    return module


def test_the_sample_file_is_two_processes(sample: types.ModuleType) -> None:
    assert [one.description.id for one in discover(sample)] == ["add", "hillshade"]


def test_the_sample_add_is_described(sample: types.ModuleType) -> None:
    description = sample.add.description

    assert (description.title, description.version) == ("Add two numbers", "1.0.0")
    assert description.inputs["a"].schema == {"type": "number"}
    assert description.inputs["b"].schema == {"type": "number", "minimum": 0, "default": 1.0}
    assert (description.inputs["a"].min_occurs, description.inputs["b"].min_occurs) == (1, 0)
    assert description.outputs["result"].schema == {"type": "number"}


def test_the_sample_hillshade_is_described(sample: types.ModuleType) -> None:
    description = sample.hillshade.description

    assert (description.title, description.version) == ("Hill shade", "1.2.0")
    assert description.description == "Shade a digital elevation model."
    assert list(description.inputs) == ["dem", "azimuth"]
    assert description.inputs["dem"].description == "Elevation in metres."
    assert description.inputs["dem"].schema["oneOf"][0]["contentMediaType"] == GEOTIFF
    assert description.inputs["azimuth"].schema == {
        "type": "number",
        "minimum": 0,
        "maximum": 360,
        "not": {"enum": [360]},
        "default": 315.0,
    }
    assert description.outputs["result"].schema["contentMediaType"] == GEOTIFF


def test_the_sample_processes_run(sample: types.ModuleType, context: Context) -> None:
    _write_raster(context.folder / "dem.tif")
    dem = InputValue(pointer="/inputs/dem/href", file=context.folder / "dem.tif", href="http://example.org/dem.tif")

    assert _run(sample.add, context, a=1) == {"result": OutputValue(value=2.0)}
    assert sample.hillshade.run({"dem": dem}, context) == {
        "result": OutputValue(file=context.folder / "shade.tif", media_type=GEOTIFF)
    }


def test_a_process_is_still_a_function(sample: types.ModuleType) -> None:
    assert sample.add(1, b=2) == 3
    assert sample.add.__doc__ == "Add two numbers."


def test_a_function_is_a_process(sample: types.ModuleType) -> None:
    assert isinstance(sample.add, Process)


# --- what annotations say ------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Station(BaseModel):
    name: str
    height: float = Field(default=0, ge=0)
    parts: list["Station"] = []


def _input_of(hint: Any, *default: Any) -> tuple[dict[str, Any], int, Any]:
    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    if default:
        function.__defaults__ = default
    one = process(function).description.inputs["x"]
    return one.schema, one.min_occurs, one.max_occurs


STATION = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "height": {"type": "number", "minimum": 0, "default": 0},
        "parts": {"type": "array", "items": {"type": "object"}, "default": []},
    },
}


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, ({"type": "string"}, 1, 1)),
        (int, ({"type": "integer"}, 1, 1)),
        (bool, ({"type": "boolean"}, 1, 1)),
        (Annotated[int, Field(gt=0, lt=10)], ({"type": "integer", "minimum": 1, "maximum": 9}, 1, 1)),
        (
            Annotated[str, Field(pattern="^a+$", max_length=3)],
            ({"type": "string", "pattern": "^a+$", "maxLength": 3}, 1, 1),
        ),
        (Literal["a", "b"], ({"type": "string", "enum": ["a", "b"]}, 1, 1)),
        (Literal["a"], ({"type": "string", "enum": ["a"]}, 1, 1)),
        (Colour, ({"type": "string", "enum": ["red", "blue"]}, 1, 1)),
        (datetime, ({"type": "string", "format": "date-time"}, 1, 1)),
        (date, ({"type": "string", "format": "date"}, 1, 1)),
        (float | None, ({"type": "number"}, 0, 1)),
        (list[float], ({"type": "number"}, 1, "unbounded")),
        (list[float] | None, ({"type": "number"}, 0, "unbounded")),
        (Annotated[list[float], Field(min_length=2, max_length=5)], ({"type": "number"}, 2, 5)),
        (set[str], ({"type": "string"}, 1, "unbounded")),
        (tuple[float, float], ({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}, 1, 1)),
        (Annotated[list[int], OneValue()], ({"type": "array", "items": {"type": "integer"}}, 1, 1)),
        (dict[str, Any], ({"type": "object", "additionalProperties": True}, 1, 1)),
        (Station, (STATION, 1, 1)),
        (str | float, ({"oneOf": [{"type": "string"}, {"type": "number"}]}, 1, 1)),
        (int | float, ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, 1, 1)),
        (BoundingBox, ({"allOf": [{"format": "ogc-bbox"}]}, 1, 1)),
        (
            bytes,
            ({"type": "string", "contentEncoding": "binary", "contentMediaType": "application/octet-stream"}, 1, 1),
        ),
        (
            Annotated[bytes, MediaType("image/png")],
            ({"type": "string", "contentEncoding": "binary", "contentMediaType": "image/png"}, 1, 1),
        ),
        (Annotated[str, MediaType("text/xml")], ({"type": "string", "contentMediaType": "text/xml"}, 1, 1)),
        (Annotated[File, MediaType("text/json")], ({"type": "object", "contentMediaType": "text/json"}, 1, 1)),
        (
            Annotated[File, MediaType("text/csv", "application/pdf")],
            (
                {
                    "oneOf": [
                        {"type": "string", "contentMediaType": "text/csv"},
                        {"type": "string", "contentEncoding": "binary", "contentMediaType": "application/pdf"},
                    ]
                },
                1,
                1,
            ),
        ),
    ],
    ids=str,
)
def test_an_annotation_says_schema_and_cardinality(hint: Any, expected: Any) -> None:
    assert _input_of(hint) == expected


@pytest.mark.parametrize(
    ("hint", "default", "shown"),
    [(float, 2.5, 2.5), (Colour, Colour.RED, "red"), (date, date(2026, 1, 2), "2026-01-02")],
    ids=["number", "enum", "date"],
)
def test_a_default_is_shown_as_json(hint: Any, default: Any, shown: Any) -> None:
    schema, least, _ = _input_of(hint, default)

    assert (schema["default"], least) == (shown, 0)


def test_no_default_is_shown_for_none() -> None:
    assert _input_of(float | None, None) == ({"type": "number"}, 0, 1)


def test_geojson_says_its_format() -> None:
    assert _input_of(Geometry)[0]["format"] == "geojson-geometry"
    assert _input_of(Feature)[0]["format"] == "geojson-feature"


def test_options_win_over_the_docstring() -> None:
    @process(
        id="other", title="Title", description="Words", keywords=["a"], job_control=["async-execute"], version="3",
        examples=[Example(title="One", inputs={"x": 1}), {"title": "Two", "inputs": {}}], fresh=True,
    )  # fmt: skip
    def function(x: int) -> None:
        """Say something.

        And more.
        """

    description = function.description

    assert (description.id, description.title, description.description) == ("other", "Title", "Words")
    assert (description.keywords, description.version) == (["a"], "3")
    assert description.job_control_options == ["async-execute"]
    assert [one.title for one in description.examples or []] == ["One", "Two"]
    assert function.fresh


def test_a_name_is_written_with_hyphens() -> None:
    @process
    def two_words() -> None: ...

    assert two_words.description.id == "two-words"
    assert two_words.description.title == "Two words"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: process(lambda *_values: None), "parameter '_values' has no name", id="no names"),
        pytest.param(lambda: process(lambda _x: None), "parameter '_x' has no annotation", id="no annotation"),
        pytest.param(lambda: process(_annotated("int")), "write what it returns", id="no return annotation"),
        pytest.param(
            lambda: process(_annotated("Nowhere")), "annotation of 'x' cannot be read .*; import", id="unknown name"
        ),
        pytest.param(
            lambda: process(_annotated(Callable[[int], int], None)), "parameter 'x' .*; use a type", id="no JSON"
        ),
        pytest.param(
            lambda: process(_annotated(np.ndarray, None)),
            "type of parameter 'x' cannot be described: numpy.ndarray is no type that JSON can carry; use str",
            id="foreign class",
        ),
        pytest.param(
            lambda: process(_annotated(int, np.ndarray)), "the return type .* numpy.ndarray .*; use str", id="returned"
        ),
    ],
)
def test_what_cannot_be_described_is_refused_in_words(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(PluginNotLoaded, match=f"function '.*': .*{words}"):
        _ = make().description


def _annotated(hint: Any, *returned: Any) -> Any:
    def function(x: Any): ...  # type: ignore[no-untyped-def]

    function.__annotations__ = {"x": hint} | ({"return": returned[0]} if returned else {})
    return function


# --- what functions get ------------------------------------------------------------------------------------------


def _got(hint: Any, context: Context, value: Any) -> Any:
    """Return what a function with one parameter gets for a value that was sent."""
    taken: list[Any] = []

    def function(x: Any) -> None:
        taken.append(x)

    function.__annotations__ = {"x": hint, "return": None}
    _run(process(function), context, x=value)
    return taken[0]


@pytest.mark.parametrize(
    ("hint", "sent", "expected"),
    [
        (float, 1, 1.0),
        (Colour, "blue", Colour.BLUE),
        (datetime, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (list[int], [1, 2], [1, 2]),
        (Annotated[list[int], Field(max_length=1)], [1], [1]),
        (set[int], [1, 1, 2], {1, 2}),
        (tuple[float, float], [1, 2], (1.0, 2.0)),
        (Station, {"value": {"name": "a"}}, Station(name="a")),
        (bytes, "AAE=", b"\x00\x01"),
        (str | dict[str, int], {"value": {"a": 1}}, {"a": 1}),
        (BoundingBox, {"bbox": [0, 1, 2, 3]}, BoundingBox(0, 1, 2, 3)),
        (
            Geometry,
            {"value": {"type": "Point", "coordinates": [1, 2]}},
            Geometry({"type": "Point", "coordinates": [1, 2]}),
        ),
    ],
    ids=str,
)
def test_a_function_gets_typed_values(context: Context, hint: Any, sent: Any, expected: Any) -> None:
    got = _got(hint, context, sent)

    assert got == expected
    assert type(got) is type(expected)


class Pair(BaseModel):
    left: int | None
    right: str | None = None


@pytest.mark.parametrize(
    ("hint", "returned", "missing"),
    [
        (str, None, "result"),
        (list[int], None, "result"),
        (Station, None, "name"),
        (str | None, None, None),
        (Pair, Pair(left=None), None),
        (Pair, None, None),
    ],
    ids=str,
)
def test_only_an_optional_output_may_be_missing(
    context: Context, hint: Any, returned: Any, missing: str | None
) -> None:
    def function() -> Any:
        return returned

    function.__annotations__["return"] = hint
    made = process(function)
    asked = dataclasses.replace(context, wanted=frozenset(made.description.outputs))

    if missing is None:
        assert made.run({}, asked) == {}
    else:
        with pytest.raises(ProcessFault, match=f"no '{missing}', which it declares"):
            made.run({}, asked)
    assert made.run({}, context) == {}, "nothing is wanted"


def test_inline_content_becomes_a_file(context: Context) -> None:
    file = _got(Annotated[File, MediaType("text/csv")], context, {"value": "a,b", "mediaType": "text/csv"})

    assert file.read_text() == "a,b"
    assert file.media_type == "text/csv"
    assert file.path.is_relative_to(context.folder)


def test_an_inline_raster_opens(context: Context) -> None:
    import base64

    _write_raster(context.folder / "dem.tif")
    sent = base64.b64encode((context.folder / "dem.tif").read_bytes()).decode()

    with _got(Raster, context, sent).open() as dataset:
        assert dataset.read(1).sum() == 6


def test_a_model_that_does_not_fit_names_the_place(context: Context) -> None:
    class Even(BaseModel):
        number: Annotated[int, Field(multiple_of=2)]
        date: datetime | None = None

    @process
    def function(x: list[Even]) -> None: ...

    values = [InputValue(pointer=f"/inputs/x/{n}/value", value={"number": n}) for n in range(3)]
    with pytest.raises(InvalidInputs) as caught:
        function.run({"x": values}, context)

    assert [fault.pointer for fault in caught.value.faults] == ["/inputs/x/1/value/number"]


class Circle(BaseModel):
    type: Literal["circle"]
    radius: float


class Rectangle(BaseModel):
    type: Literal["rectangle"]
    sides: tuple[float, float]


class Sketch(BaseModel):
    shape: Geometry | Feature | None = None
    form: Circle | Rectangle | None = None


@pytest.mark.parametrize(
    ("hint", "sent", "pointers"),
    [
        pytest.param(Circle | Rectangle, {"type": "rectangle", "sides": [1, "b"]}, ["/sides/1"], id="by its type"),
        pytest.param(Circle | Rectangle, {"type": "circle"}, ["/radius"], id="member that is missing"),
        pytest.param(
            Circle | Rectangle, {"type": "line", "radius": 1, "sides": [1, 2]}, ["/type", "/type"], id="none is nearer"
        ),
        pytest.param(dict[str, int] | list[int], [1, "b"], ["/1"], id="by how far it fits"),
        pytest.param(
            Sketch,
            {"shape": {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1]}}},
            ["/shape/geometry/coordinates"],
            id="inside a model",
        ),
        pytest.param(
            Sketch | int,
            {"form": {"type": "circle", "radius": "wide"}},
            ["/form/radius"],
            id="union in a union",
        ),
    ],
)
def test_of_a_union_the_branch_that_was_meant_is_blamed(
    context: Context, hint: Any, sent: Any, pointers: list[str]
) -> None:
    def function(x): ...

    function.__annotations__ = {"x": hint, "return": None}
    value = InputValue(pointer="/inputs/x/value", value=sent)
    with pytest.raises(InvalidInputs) as caught:
        process(function).run({"x": value}, context)

    assert [fault.pointer for fault in caught.value.faults] == [f"/inputs/x/value{pointer}" for pointer in pointers]


def test_the_context_is_given_by_its_type(context: Context) -> None:
    @process
    def function(*, where: RunContext) -> str:
        return str(where.folder)

    assert function.description.inputs == {}
    assert function.run({}, context)["result"] == OutputValue(value=str(context.folder))


# --- what functions give -----------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    mean: float
    picture: Annotated[bytes, MediaType("image/png")]


class Totals(TypedDict):
    total: int
    note: NotRequired[str]


@dataclass
class Both:
    raster: COG
    report: Annotated[Text, MediaType("text/html")]


class Summary(BaseModel):
    when: datetime
    count: int = Field(default=0, description="How many")


@pytest.mark.parametrize(
    ("hint", "names"),
    [
        (None, []),
        (float, ["result"]),
        (Station | None, ["result"]),
        (Statistics, ["mean", "picture"]),
        (Totals, ["total", "note"]),
        (Both, ["raster", "report"]),
        (Summary, ["when", "count"]),
        (Annotated[Summary, OneValue()], ["result"]),
        (BoundingBox, ["result"]),
    ],
    ids=str,
)
def test_a_return_type_says_the_outputs(hint: Any, names: list[str]) -> None:
    assert list(process(_annotated(int, hint)).description.outputs) == names


@pytest.mark.parametrize(
    ("hint", "returned", "expected"),
    [
        (float, 1, OutputValue(value=1.0)),
        (float, np.float64(1.5), OutputValue(value=1.5)),
        (str, "a", OutputValue(value="a")),
        (list[float], [1.5], OutputValue(value=[1.5])),
        (dict[str, Any], {"a": [1]}, OutputValue(value={"a": [1]})),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), OutputValue(value="2026-01-02T00:00:00Z")),
        (Colour, Colour.RED, OutputValue(value="red")),
        (Station, Station(name="a"), OutputValue(value={"name": "a", "height": 0.0, "parts": []})),
        (bytes, b"a", OutputValue(value=b"a", media_type="application/octet-stream")),
        (Annotated[str, MediaType("text/html")], "<p>", OutputValue(value="<p>", media_type="text/html")),
        (Text, Text("a", "text/csv"), OutputValue(value="a", media_type="text/csv")),
        (Text, Text("[1]", "text/json"), OutputValue(value=b"[1]", media_type="text/json")),
        (Text, Text("{}", "application/geo+json"), OutputValue(value=b"{}", media_type="application/geo+json")),
        (
            BoundingBox,
            BoundingBox(0, 1, 2, 3, crs="EPSG:3857"),
            OutputValue(value={"bbox": [0, 1, 2, 3], "crs": "EPSG:3857"}),
        ),
        (
            Geometry,
            Geometry({"type": "Point", "coordinates": [1, 2]}),
            OutputValue(value={"type": "Point", "coordinates": [1, 2]}, media_type="application/geo+json"),
        ),
    ],
    ids=str,
)
def test_what_is_returned_becomes_an_output(context: Context, hint: Any, returned: Any, expected: OutputValue) -> None:
    def function() -> Any:
        return returned

    function.__annotations__ = {"return": Annotated[hint, OneValue()] if hint is Station else hint}

    assert process(function).run({}, context) == {"result": expected}


def test_a_large_list_is_given_on_without_a_copy(context: Context) -> None:
    large = [1.0] * 10

    def function() -> list[float]:
        return large

    result = process(function).run({}, context)["result"]

    assert isinstance(result, OutputValue)
    assert result.value is large


def test_files_are_found_below_the_folder(context: Context) -> None:
    @process
    def function() -> list[OutputFile]:
        return [OutputFile(Path("a.png")), OutputFile(Path("b"), "a/b")]

    assert function.description.outputs["result"].max_occurs == "unbounded"
    assert function.run({}, context)["result"] == [
        OutputValue(file=context.folder / "a.png", media_type="image/png"),
        OutputValue(file=context.folder / "b", media_type="a/b"),
    ]


def test_several_outputs_come_by_name(context: Context) -> None:
    @process
    def function() -> Statistics:
        return Statistics(1.5, b"png")

    assert function.run({}, context) == {
        "mean": OutputValue(value=1.5),
        "picture": OutputValue(value=b"png", media_type="image/png"),
    }


def test_an_output_that_is_none_is_absent(context: Context) -> None:
    @process
    def function() -> Totals:
        return {"total": 3}

    assert function.description.outputs["note"].min_occurs == 0
    assert function.run({}, context) == {"total": OutputValue(value=3)}


def test_outputs_may_be_named_and_described() -> None:
    @process(outputs={"shade": "How bright each pixel is"})
    def one() -> GeoTIFF: ...

    @process(outputs={"total": Output(schema={"type": "integer"}, title="All")})
    def two() -> Totals: ...

    assert one.description.outputs["shade"].description == "How bright each pixel is"
    assert two.description.outputs["total"].title == "All"


def test_the_docstring_describes_outputs() -> None:
    @process
    def one() -> float:
        """Measure.

        Returns
        -------
        float
            In metres.
        """

    assert one.description.outputs["result"].description == "In metres."


def test_a_wrong_return_value_is_the_process_fault(context: Context) -> None:
    @process
    def function() -> float:
        return "much"  # type: ignore[return-value]

    with pytest.raises(ProcessFault, match="result"):
        function.run({}, context)


# --- modules -----------------------------------------------------------------------------------------------------


class Counter:
    """The class form."""

    description = ProcessDescription(id="counter", version="1")

    def run(self, inputs: Inputs, context: RunContext) -> Outputs:
        return {}


class Needy(Counter):
    def __init__(self, what: str) -> None:
        self.what = what


def _module(**members: Any) -> types.ModuleType:
    module = types.ModuleType("plugin")
    for name, value in members.items():
        if isinstance(value, type | FunctionProcess) and value.__module__ == __name__:
            value.__module__ = "plugin"
        setattr(module, name, value)
    return module


def test_classes_and_objects_are_processes() -> None:
    class Own(Counter):
        description = ProcessDescription(id="own", version="1")

    found = discover(_module(Own=Own, needy=Needy("a")))

    assert [one.description.id for one in found] == ["own", "counter"]


def test_what_a_module_imports_is_not_its_own(sample: types.ModuleType) -> None:
    assert discover(_module(add=sample.add)) == []
    assert discover(_module(add=sample.add, __all__=["add"])) == [sample.add]


def test_one_process_under_two_names_counts_once() -> None:
    @process
    def function() -> None: ...

    assert len(discover(_module(a=function, b=function))) == 1


def test_two_processes_of_one_identifier_are_refused() -> None:
    with pytest.raises(PluginNotLoaded, match="counter"):
        discover(_module(a=Counter(), b=Counter()))


def test_a_class_that_needs_arguments_is_refused_in_words() -> None:
    class Unmade(Needy):
        pass

    with pytest.raises(PluginNotLoaded, match="without arguments"):
        discover(_module(Unmade=Unmade))


def test_an_object_or_a_class_is_its_own_process(sample: types.ModuleType) -> None:
    needy = Needy("a")

    assert discover(sample.add) == [sample.add]
    assert discover(needy) == [needy]
    assert isinstance(discover(Counter)[0], Counter)
    assert discover(print) == []


@pytest.mark.parametrize("name", ["hillshade", "Holder.inner", "nested", "same_thing", "same-thing"])
def test_a_name_in_a_module_is_one_process(sample: types.ModuleType, name: str) -> None:
    @process(id="same-thing")
    def other() -> None: ...

    class Holder:
        inner = sample.hillshade

    module = _module(hillshade=sample.hillshade, Holder=Holder, nested=_module(a=other), other=other)

    assert len(find_named(module, name)) == 1


@pytest.mark.parametrize("name", ["nothing", "plain", "Holder.nothing", "__name__"])
def test_a_name_that_is_no_process_gives_none(name: str) -> None:
    def plain() -> None: ...

    class Holder: ...

    assert find_named(_module(plain=plain, Holder=Holder), name) == []


def _write_raster(path: Path) -> None:
    profile = {"driver": "GTiff", "width": 2, "height": 2, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", transform=rasterio.Affine(1, 0, 10, 0, -1, 50), **profile) as dataset:
        dataset.write(np.array([[[0, 1], [2, 3]]], dtype="uint8"))
