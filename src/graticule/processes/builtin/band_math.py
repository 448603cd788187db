"""A formula over the bands of rasters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from graticule import COG, Raster, RunContext, process
from graticule.errors import Fault, InvalidInputs
from graticule.processes.expression import LONGEST_TEXT, Node, evaluate, iter_names, names_in, parse_expression

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rasterio.io import DatasetReader
    from rasterio.windows import Window

    from graticule.data.rasters import Pixels

_RESERVED = frozenset({"and", "or", "not"})


@process(
    keywords=["raster", "band math", "map algebra", "NDVI", "index"],
    outputs={"result": "One band on the grid of the rasters."},
    examples=[
        {
            "title": "Vegetation index (NDVI) of the sample landscape",
            "inputs": {
                "rasters": [{"href": "sample:landscape.tif"}],
                "expression": "(nir - red) / (nir + red)",
            },
        },
        {
            "title": "Lush fields and meadows of the sample valley below 450 m",
            "inputs": {
                "rasters": [{"href": "sample:landscape.tif"}, {"href": "sample:elevation.tif"}],
                "expression": "where(elevation < 450, nir / red > 6, 0)",
                "dtype": "uint8",
            },
        },
    ],
)
def band_math(
    rasters: Annotated[list[Raster], Field(min_length=1, max_length=20)],
    expression: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)],
    names: list[str] | None = None,
    dtype: Literal["float32", "float64", "uint8", "int16", "uint16", "int32", "uint32"] = "float32",
    nodata: float | None = None,
    scaled: bool = True,  # noqa: FBT001, FBT002 - inputs have names on the wire
    *,
    context: RunContext,
) -> COG:
    """Compute a formula over raster bands.

    Gives the value of a formula for each pixel of one raster, or of several on the same grid.

    Operators, from loosest to tightest: or, and, not, one of < <= > >= == != (1 where it holds, else 0), + -, * / %,
    the sign, and ** or ^. Functions: min, max, abs, sqrt, exp, log (natural), log10, sin, cos, tan (radians), floor,
    ceil, round, and where(condition, then, else). All is computed in double precision, window by window.

    A pixel of the result has no data where a band that the formula names has none, and where the formula has no finite
    value: after a division by zero or the root of a negative number.

    Parameters
    ----------
    rasters : list of Raster
        Rasters with the same CRS, pixel size, origin and number of rows and columns; up to 500 million pixels.
    expression : str
        The formula, e.g. (nir - red) / (nir + red). Bands are b1, b2, …, counted through all rasters in their order, or
        go by their description in the file, or by `names`.
    names : list of str
        A name for each band of all rasters, in their order. Default: their descriptions.
    dtype : str
        Type of the pixels of the result. Whole numbers are rounded; what does not fit has no data.
    nodata : float
        Value of pixels without data. Default: not-a-number, the smallest of a signed, the largest of an unsigned type.
    scaled : bool
        Whether the formula sees a band with scale and offset as value * scale + offset, or as stored.
    """
    from graticule.data.rasters import check_bands, check_grid, check_pixels

    formula = parse_expression(expression)
    result = Result(dtype=dtype, nodata=nodata, scaled=scaled)
    nodata_of(result)
    with ExitStack() as stack:
        datasets = [stack.enter_context(raster.open()) for raster in rasters]
        for raster, dataset in zip(rasters, datasets, strict=True):
            check_bands(dataset, pointer=raster.pointer)
            check_pixels(dataset, pointer=raster.pointer)
            check_grid(dataset, datasets[0], pointer=raster.pointer)
        # Whoever opened a raster knows best why it cannot be read, but of several it cannot tell which one failed.
        pointers = [raster.pointer if len(rasters) > 1 else "" for raster in rasters]
        bands = name_bands([Source(*pair) for pair in zip(datasets, pointers, strict=True)], names or ())
        check_expression(formula, bands)
        path = context.folder / "result.tif"
        compute(formula, bands, path, result=result, report=context.report)
    return COG(path)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An open raster and where it stood in the request."""

    dataset: DatasetReader
    pointer: str
    """Whom to blame if it cannot be read; empty: whoever opened it does that."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One band that a formula can name."""

    source: Source
    number: int


def name_bands(sources: Sequence[Source], names: Sequence[str], *, pointer: str = "/inputs/names") -> dict[str, Band]:
    """
    Return the bands of rasters by all their names.

    Parameters
    ----------
    sources : Sequence[Source]
        The rasters. Their bands are counted through: ``b1`` is the first band of the first raster.
    names : Sequence[str]
        Names for all bands in this order, or none. Without them, a band whose description is unique among all bands
        can be named by it; what is no letter, digit or underscore becomes an underscore.
    pointer : str
        Where `names` stood in the request.

    Returns
    -------
    dict[str, Band]
        Every name and its band. A band has its number and perhaps one more name.

    Raises
    ------
    InvalidInputs
        If the names are not as many as the bands, are no words, or come twice.
    """
    bands = [Band(source, number) for source in sources for number in range(1, source.dataset.count + 1)]
    numbered = {f"b{place}": band for place, band in enumerate(bands, start=1)}
    if names:
        _check_names(names, len(bands), pointer)
        return numbered | dict(zip(names, bands, strict=True))
    described = [_as_word(band.source.dataset.descriptions[band.number - 1]) for band in bands]
    return {
        word: band for word, band in zip(described, bands, strict=True) if word and described.count(word) == 1
    } | numbered


def _check_names(names: Sequence[str], wanted: int, pointer: str) -> None:
    if len(names) != wanted:
        message = f"has {len(names)} names for {wanted} bands; give one for each band or none"
        raise InvalidInputs([Fault(pointer, message)])
    if wrong := [
        Fault(f"{pointer}/{place}", f"{name!r} is no name that a formula can use; give a word that no other band has")
        for place, name in enumerate(names)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in _RESERVED or name in names[:place]
    ]:
        raise InvalidInputs(wrong)


def _as_word(description: str | None) -> str:
    word = re.sub(r"\W", "_", (description or "").strip(), flags=re.ASCII)
    return f"_{word}" if word[:1].isdigit() or word in _RESERVED else word


def check_expression(node: Node, bands: Mapping[str, Band], *, pointer: str = "/inputs/expression") -> None:
    """Raise InvalidInputs if a formula names a band that is not there, or none at all."""
    known = ", ".join(bands)
    faults = [
        Fault(pointer, f"names {name.name!r} at character {name.position + 1}; the bands are {known}")
        for name in iter_names(node)
        if name.name not in bands
    ]
    if not names_in(node):
        faults = [Fault(pointer, f"names no band; the bands are {known}")]
    if faults:
        raise InvalidInputs(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the result is stored."""

    dtype: str = "float32"
    nodata: float | None = None
    """None: not-a-number for floating point, the smallest value of signed types, the largest of unsigned ones."""
    scaled: bool = True
    """Whether bands with scale and offset are seen as ``value * scale + offset``."""


def nodata_of(result: Result, *, pointer: str = "/inputs/nodata") -> float:
    """Return the value that says "no data" in the result; raise InvalidInputs if the type cannot hold it."""
    import numpy as np

    kind = np.dtype(result.dtype)
    if result.nodata is None:
        if kind.kind == "f":
            return float("nan")
        return float(np.iinfo(kind).min if kind.kind == "i" else np.iinfo(kind).max)
    if kind.kind == "f":
        most = float(np.finfo(kind).max)
        if abs(result.nodata) > most:
            message = f"{result.nodata:g} is no {result.dtype}; give a number from {-most:g} to {most:g}"
            raise InvalidInputs([Fault(pointer, message)])
        return result.nodata
    limits = np.iinfo(kind)
    if not limits.min <= result.nodata <= limits.max or result.nodata != int(result.nodata):
        message = f"{result.nodata:g} is no {result.dtype}; give a whole number from {limits.min} to {limits.max}"
        raise InvalidInputs([Fault(pointer, message)])
    return result.nodata


def compute(
    node: Node, bands: Mapping[str, Band], path: Path, *, result: Result, report: Callable[[int, str], None]
) -> None:
    """
    Write what a formula gives for every pixel, window by window, as a cloud-optimized GeoTIFF.

    A pixel has no data where one of the bands that the formula names has none, where the formula has no finite value,
    and where the value does not fit the type.

    Parameters
    ----------
    node : Node
        The formula; it names bands that are there.
    bands : Mapping[str, Band]
        Bands on one grid.
    path : Path
        The file to write.
    result : Result
        How to store it.
    report : Callable[[int, str], None]
        Told of progress.
    """
    from graticule.data.rasters import tracked, windows_of, writing_cog

    used = {name: bands[name] for name in sorted(names_in(node))}
    grid = next(iter(used.values())).source.dataset
    profile = {
        "width": grid.width,
        "height": grid.height,
        "count": 1,
        "dtype": result.dtype,
        "crs": grid.crs,
        "transform": grid.transform,
        "nodata": nodata_of(result),
    }
    with writing_cog(path, profile, bands=["result"]) as target:
        for window in tracked(windows_of(grid.height, grid.width), report, "computing", last=90):
            target.write(_compute_window(node, used, window, result), 1, window=window)
        report(90, "laying out the file")


def _compute_window(node: Node, used: Mapping[str, Band], window: Window, result: Result) -> NDArray[Any]:
    import numpy as np

    pixels = {name: _read(band, window, scaled=result.scaled) for name, band in used.items()}
    values = evaluate(node, {name: item.values.astype("float64") for name, item in pixels.items()})
    valid = np.logical_and.reduce([item.valid for item in pixels.values()])
    return _stored(values, valid & np.isfinite(values), result)


def _read(band: Band, window: Window, *, scaled: bool) -> Pixels:
    from graticule.data.rasters import read_pixels, reading

    with reading(band.source.pointer) if band.source.pointer else nullcontext():
        return read_pixels(band.source.dataset, band.number, window, scaled=scaled)


def _stored(values: NDArray[Any], valid: NDArray[Any], result: Result) -> NDArray[Any]:
    """Return values as the type of the file: whole numbers are rounded, and what does not fit has no data."""
    import numpy as np

    kind = np.dtype(result.dtype)
    if kind.kind != "f":
        values = np.rint(values)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    fits = valid & (values >= float(limits.min)) & (values <= float(limits.max))
    return np.where(fits, values, nodata_of(result)).astype(kind)
