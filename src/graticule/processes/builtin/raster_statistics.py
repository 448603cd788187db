"""Statistics of the bands of a raster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from graticule import Raster, RunContext, process
from graticule.errors import Fault, InvalidInputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rasterio.io import DatasetReader

    from graticule.data.rasters import Pixels

    Sweep = Callable[[], Iterator[Pixels]]

DIGIT_BITS = 16
"""Bits of a value that one pass over the raster settles when percentiles are looked for."""


class Percentile(BaseModel):
    """A value and the share of pixels below it."""

    percentile: float
    value: float


class Histogram(BaseModel):
    """How many pixels lie in each of some equal ranges between two values."""

    min: float
    max: float
    counts: list[int]


class BandStatistics(BaseModel):
    """Statistics of one band; those that have no value, since no pixel is valid, are null."""

    band: Annotated[int, Field(description="From 1.")]
    name: Annotated[str | None, Field(description="The band's description in the file.")] = None
    unit: Annotated[str | None, Field(description="The band's unit in the file.")] = None
    count: Annotated[int, Field(description="All pixels.")]
    valid: Annotated[int, Field(description="Pixels with data.")]
    min: float | None = None
    max: float | None = None
    sum: float | None = None
    mean: float | None = None
    std: Annotated[float | None, Field(description="Standard deviation of the population.")] = None
    percentiles: list[Percentile] | None = None
    histogram: Histogram | None = None


@process(
    keywords=["raster", "statistics", "histogram", "percentiles"],
    outputs={"statistics": "One object for each band."},
    examples=[
        {
            "title": "Heights of the sample valley",
            "inputs": {"raster": {"href": "sample:elevation.tif"}, "percentiles": [5, 50, 95], "buckets": 20},
        },
        {
            "title": "Red and near infrared of the sample landscape",
            "inputs": {"raster": {"href": "sample:landscape.tif"}, "bands": [3, 4]},
        },
    ],
)
def raster_statistics(
    raster: Raster,
    bands: list[Annotated[int, Field(ge=1)]] | None = None,
    percentiles: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(max_length=20)] | None = None,
    buckets: Annotated[int, Field(ge=0, le=1000)] = 0,
    scaled: bool = True,  # noqa: FBT001, FBT002 - inputs have names on the wire
    *,
    context: RunContext,
) -> list[BandStatistics]:
    """Compute statistics of a raster.

    Gives count, minimum, maximum, sum, mean and standard deviation of each band, and percentiles and a histogram where
    they are asked for. Pixels outside a mask, with the no-data value, and those that are not finite do not count. The
    raster is read window by window and may have 500 million pixels in each band, 5000 million in all bands together;
    percentiles are exact and need one to four further readings, a histogram one.

    Parameters
    ----------
    raster : Raster
        The raster, by address or upload.
    bands : list of int
        Numbers of the bands, from 1. Default: all.
    percentiles : list of float
        Percentiles to find, from 0 to 100; between two pixels they are interpolated.
    buckets : int
        Into how many equal ranges the histogram divides the values; 0: no histogram.
    scaled : bool
        Whether a band with scale and offset is described as value * scale + offset, in its unit, or as stored.
    """
    from graticule.data.rasters import check_bands, check_pixels

    question = Question(bands=bands or (), percentiles=percentiles or (), buckets=buckets, scaled=scaled)
    with raster.open() as dataset:
        check_bands(dataset, pointer=raster.pointer)
        check_pixels(dataset, pointer=raster.pointer, bands=len(question.bands) or dataset.count)
        found = describe_bands(dataset, question, report=context.report)
    return [BandStatistics(**one) for one in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Count, sum, mean and spread of values; two of them add up to that of both."""

    valid: int = 0
    total: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from the mean."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Moments:
        """Return the moments of an array, computed in float64."""
        if values.size == 0:
            return cls()
        values = values.astype("float64")
        mean = float(values.mean())
        return cls(
            valid=values.size,
            total=float(values.sum()),
            minimum=float(values.min()),
            maximum=float(values.max()),
            mean=mean,
            squares=float(((values - mean) ** 2).sum()),
        )

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both together.

        References
        ----------
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
        """
        if not self.valid or not other.valid:
            return self if self.valid else other
        valid = self.valid + other.valid
        apart = other.mean - self.mean
        return Moments(
            valid=valid,
            total=self.total + other.total,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            mean=self.mean + apart * other.valid / valid,
            squares=self.squares + other.squares + apart**2 * self.valid * other.valid / valid,
        )

    @property
    def deviation(self) -> float:
        """Standard deviation of the population (divided by the count, not by one less)."""
        return math.sqrt(self.squares / self.valid) if self.valid else math.nan


def quantiles(sweep: Sweep, dtype: str, valid: int, shares: Sequence[float]) -> list[float]:
    """
    Return exact quantiles of a band of any size.

    The values are sorted by their bits: each pass counts the next 16 bits of those values that are still candidates,
    so that one pass settles 8 and 16 bit types, two settle 32 bits and four 64 bits. Memory is one table of counts for
    each candidate, whatever the size of the raster.

    Parameters
    ----------
    sweep : Sweep
        Reads the band once, window by window; called once a pass.
    dtype : str
        Type of the values.
    valid : int
        How many are valid; more than none.
    shares : Sequence[float]
        Which quantiles, from 0 to 1.

    Returns
    -------
    list[float]
        One for each share, linear between the two neighbours, as numpy's default method.
    """
    places = [share * (valid - 1) for share in shares]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    found = dict(zip(ranks, _ranked(sweep, dtype, ranks), strict=True))
    return [
        found[math.floor(place)] + (found[math.ceil(place)] - found[math.floor(place)]) * (place - math.floor(place))
        for place in places
    ]


def _ranked(sweep: Sweep, dtype: str, ranks: list[int]) -> list[float]:
    """Return the values that stand at `ranks` (from 0) when all valid values are sorted."""
    import numpy as np

    bits = np.dtype(dtype).itemsize * 8
    digit = min(DIGIT_BITS, bits)
    prefixes = [0] * len(ranks)
    left = list(ranks)
    for shift in range(bits - digit, -1, -digit):
        tables = {prefix: np.zeros(1 << digit, "int64") for prefix in prefixes}
        for pixels in sweep():
            keys = _sortable(pixels.values[pixels.valid])
            for prefix, table in tables.items():
                # A shift by all bits of the type is not defined; in the first pass every value is a candidate.
                held = keys if shift + digit == bits else keys[keys >> np.uint64(shift + digit) == np.uint64(prefix)]
                digits = ((held >> np.uint64(shift)) & np.uint64((1 << digit) - 1)).astype("int64")
                np.add(table, np.bincount(digits, minlength=1 << digit), out=table)
        for number, prefix in enumerate(prefixes):
            sums = np.cumsum(tables[prefix])
            place = int(np.searchsorted(sums, left[number], side="right"))
            left[number] -= int(sums[place - 1]) if place else 0
            prefixes[number] = prefix << digit | place
    return [_unsorted(prefix, dtype) for prefix in prefixes]


def _sortable(values: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned integers (uint64) that sort as the values do."""
    import numpy as np

    bits = values.dtype.itemsize * 8
    raw = values.view(f"uint{bits}").astype("uint64")
    sign = np.uint64(1 << (bits - 1))
    if values.dtype.kind == "u":
        return raw
    if values.dtype.kind == "i":
        return raw ^ sign
    every = np.uint64((1 << bits) - 1)
    return np.where(raw & sign, raw ^ every, raw | sign)


def _unsorted(key: int, dtype: str) -> float:
    """Return the value of a sortable integer."""
    import numpy as np

    kind = np.dtype(dtype)
    bits = kind.itemsize * 8
    sign = 1 << (bits - 1)
    if kind.kind == "i":
        key ^= sign
    elif kind.kind == "f":
        key = key ^ sign if key & sign else key ^ ((1 << bits) - 1)
    return float(np.array([key], f"uint{bits}").view(kind)[0])


def histogram(sweep: Sweep, *, buckets: int, minimum: float, maximum: float) -> list[int]:
    """Return how many values lie in each of `buckets` equal ranges; the last one holds its upper edge too."""
    import numpy as np

    counts = np.zeros(buckets, "int64")
    for pixels in sweep():
        values = pixels.values[pixels.valid].astype("float64")
        counts += np.histogram(values, bins=buckets, range=(minimum, maximum))[0]
    return [int(count) for count in counts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is wanted of a raster."""

    bands: Sequence[int] = ()
    percentiles: Sequence[float] = ()
    buckets: int = 0
    scaled: bool = True


def describe_bands(
    dataset: DatasetReader, question: Question, *, report: Callable[[int, str], None]
) -> list[dict[str, Any]]:
    """
    Return the statistics of bands, reading them window by window.

    Parameters
    ----------
    dataset : DatasetReader
        An open raster.
    question : Question
        Which bands and which statistics.
    report : Callable[[int, str], None]
        Told of progress.

    Returns
    -------
    list[dict[str, Any]]
        One object for each band.

    Raises
    ------
    InvalidInputs
        If a band does not exist.
    """
    wanted = list(question.bands) or list(range(1, dataset.count + 1))
    if wrong := [
        Fault(f"/inputs/bands/{place}", f"there is no band {band}; the raster has {dataset.count}")
        for place, band in enumerate(wanted)
        if not 1 <= band <= dataset.count
    ]:
        raise InvalidInputs(wrong)
    return [
        _describe_band(dataset, band, question, report=_portion(report, place, len(wanted)))
        for place, band in enumerate(wanted)
    ]


def _portion(report: Callable[[int, str], None], place: int, of: int) -> Callable[[int, str], None]:
    """Return a report of one of several equal parts of the work."""
    return lambda percent, message: report((place * 100 + percent) // of, message)


def _describe_band(
    dataset: DatasetReader, band: int, question: Question, *, report: Callable[[int, str], None]
) -> dict[str, Any]:
    from graticule.data.rasters import read_pixels, tracked, windows_in

    dtype = dataset.dtypes[band - 1]
    scale, offset = (dataset.scales[band - 1], dataset.offsets[band - 1]) if question.scaled else (1.0, 0.0)
    passes = 1 + bool(question.buckets) + (_passes(dtype) if question.percentiles else 0)
    done = 0

    def sweep() -> Iterator[Pixels]:
        """Read the band once. Raw values: scaling is linear and can wait for the results."""
        nonlocal done
        first, last = 100 * done // passes, 100 * (done + 1) // passes
        done += 1
        for window in tracked(windows_in(dataset), report, f"reading band {band}", first=first, last=last):
            yield read_pixels(dataset, band, window)

    moments = Moments()
    for pixels in sweep():
        moments += Moments.of(pixels.values[pixels.valid])
    result: dict[str, Any] = {"band": band, "count": dataset.width * dataset.height, "valid": moments.valid}
    if dataset.descriptions[band - 1]:
        result["name"] = dataset.descriptions[band - 1]
    if dataset.units[band - 1]:
        result["unit"] = dataset.units[band - 1]
    if not moments.valid:
        return result
    edges = sorted((moments.minimum * scale + offset, moments.maximum * scale + offset))
    result |= {
        "min": edges[0],
        "max": edges[1],
        "sum": moments.total * scale + offset * moments.valid,
        "mean": moments.mean * scale + offset,
        "std": moments.deviation * abs(scale),
    }
    if question.percentiles:
        shares = [share / 100 if scale >= 0 else 1 - share / 100 for share in question.percentiles]
        values = quantiles(sweep, dtype, moments.valid, shares)
        result["percentiles"] = [
            {"percentile": percentile, "value": value * scale + offset}
            for percentile, value in zip(question.percentiles, values, strict=True)
        ]
    if question.buckets:
        counts = histogram(sweep, buckets=question.buckets, minimum=moments.minimum, maximum=moments.maximum)
        counts = counts if scale >= 0 else counts[::-1]
        result["histogram"] = {"min": edges[0], "max": edges[1], "counts": counts}
    return result


def _passes(dtype: str) -> int:
    import numpy as np

    return math.ceil(np.dtype(dtype).itemsize * 8 / DIGIT_BITS)
