"""The values that process functions take and give: rasters, files, bounding boxes, GeoJSON and outputs.

Annotate parameters and returns with them; the decorator turns the annotations into descriptions. Nothing heavy is
imported with this module: GDAL loads when a raster is opened, pydantic when a function is described.
"""

from __future__ import annotations

import math
import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

from graticule.errors import Fault, InvalidInputs
from graticule.ogc.common import COG as COG_TYPE
from graticule.ogc.common import CRS84, CRS84H, GEOTIFF
from graticule.processes.geojson import Feature, FeatureCollection, GeoJSON, Geometry, Malformed
from graticule.processes.markers import MediaType, OneValue, alternatives, content_schema, instances_of

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema
    from rasterio.io import DatasetReader

    from graticule.data.fetch import FetchPolicy, RemoteFile, Unfetchable


@dataclass(frozen=True, slots=True)
class RasterKind:
    """A kind of raster file that may be opened."""

    driver: str
    """GDAL's name for it."""

    media_type: str
    signature: re.Pattern[bytes]
    """How the content begins."""


RASTER_KINDS = (
    RasterKind("GTiff", "image/tiff", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
    RasterKind("PNG", "image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    RasterKind("JPEG", "image/jpeg", re.compile(rb"\xff\xd8\xff")),
    RasterKind("JP2OpenJPEG", "image/jp2", re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51")),
    RasterKind("WEBP", "image/webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
)
"""
All that may open foreign bytes. None of them reads another file or address
that the content names, as VRT and its kin do; the driver is chosen here and never by GDAL.
"""

__all__ = [
    "COG",
    "BoundingBox",
    "Feature",
    "FeatureCollection",
    "File",
    "GeoJSON",
    "GeoTIFF",
    "Geometry",
    "Malformed",
    "MediaType",
    "OneValue",
    "OutputFile",
    "Raster",
    "Text",
]

RASTER_TYPES = (GEOTIFF, COG_TYPE, "image/png", "image/jpeg", "image/jp2", "image/webp")
"""Media types that a raster input announces, the default first."""

OCTETS = "application/octet-stream"


# --- inputs that are files ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that somebody sent or pointed to; it lies in the job's folder."""

    path: Path
    """The content."""

    media_type: str | None = None
    """As sent, as the reference's server said, or as the description declares."""

    href: str | None = None
    """The address, when it came by reference."""

    pointer: str = ""
    """Where it stood in the request, as a JSON pointer."""

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return self.path.name

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open the file as :func:`open` does; bytes unless `mode` says otherwise."""
        return self.path.open(mode, **options)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content as text."""
        try:
            return self.path.read_text(encoding)
        except UnicodeDecodeError as error:
            raise self.fault(f"the file is not {encoding} text (byte {error.start}); send text") from error

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self.path.read_bytes()

    def fault(self, message: str) -> InvalidInputs:
        """Return the error that blames this input: ``raise file.fault("has no column 'x'; add one")``."""
        return InvalidInputs([Fault(self.pointer, message)])

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return instances_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return content_schema(OCTETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """
    A raster that somebody sent or pointed to; GDAL sees it when it is opened.

    A reference stays where it is when its server answers byte ranges: only what is read is fetched. `path` is None
    then.
    """

    path: Path | None = None
    """The content, when it lies in the job's folder."""

    href: str | None = None
    """The address, when it came by reference."""

    media_type: str | None = None
    """As sent, as the reference's server said, or as the description declares."""

    pointer: str = ""
    """Where it stood in the request, as a JSON pointer."""

    policy: FetchPolicy | None = field(default=None, repr=False)
    """What the guarded client may do to read `href`."""

    def __post_init__(self) -> None:
        if self.path is None and self.href is None:
            raise ValueError("a raster needs a path or an href")

    @contextmanager
    def open(self, **options: Any) -> Iterator[DatasetReader]:
        """
        Open the raster with rasterio, for a ``with`` block.

        Parameters
        ----------
        **options : Any
            Opening options of the GDAL driver.

        Yields
        ------
        DatasetReader
            The open dataset.

        Raises
        ------
        InvalidInputs
            If the content is no raster, or a part of it cannot be read or fetched; the fault names this input.
        """
        import rasterio
        from rasterio.errors import RasterioIOError

        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO"))
            remote = None if self.path is not None else stack.enter_context(self._connect())
            try:
                dataset = stack.enter_context(self._dataset(remote, options))
            except RasterioIOError as error:
                raise self._damaged(remote) from error
            try:
                yield dataset
            except RasterioIOError as error:
                # Files of the process's own fail with the same class; only a failed read can be this input's fault.
                if "read failed" not in str(error).lower():
                    raise
                raise self._damaged(remote) from error

    @contextmanager
    def open_georeferenced(self, **options: Any) -> Iterator[DatasetReader]:
        """Open the raster as `open` does, and refuse one without a coordinate reference system."""
        with self.open(**options) as dataset:
            if dataset.crs is None:
                raise self.fault("the raster has no coordinate reference system; write one into it")
            yield dataset

    def fault(self, message: str) -> InvalidInputs:
        """Return the error that blames this input: ``raise dem.fault("has three bands; send one")``."""
        return InvalidInputs([Fault(self.pointer, message)])

    def _connect(self) -> RemoteFile:
        from graticule.data.fetch import FetchPolicy, RemoteFile, Unfetchable

        try:
            return RemoteFile(cast("str", self.href), self.policy or FetchPolicy())
        except Unfetchable as error:
            raise self._not_fetched(error) from error

    def _not_fetched(self, error: Unfetchable) -> InvalidInputs:
        from graticule.data.fetch import Undelivered

        return InvalidInputs([Fault(self.pointer, str(error), transient=isinstance(error, Undelivered))])

    def _dataset(self, remote: RemoteFile | None, options: Mapping[str, Any]) -> DatasetReader:
        """Open the raster with the one driver that its first bytes ask for."""
        import rasterio

        if remote is None:
            path = cast("Path", self.path)
            with path.open("rb") as file:
                driver = self._driver(file.read(SIGNATURE_BYTES))
            return rasterio.open(path.absolute(), driver=driver, **options)
        driver = self._driver(remote.read_at(0, SIGNATURE_BYTES))
        return rasterio.open("remote", driver=driver, opener=remote.opener, **options)

    def _damaged(self, remote: RemoteFile | None) -> InvalidInputs:
        # An error of the network inside GDAL's reading arrives as a read error; the remote file remembers the cause.
        if remote is not None and remote.failure is not None:
            return self._not_fetched(remote.failure)
        return self.fault("the raster is damaged or cut short; send the whole file")

    def _driver(self, start: bytes) -> str:
        kind = find_raster_kind(start)
        if kind is None:
            raise self.fault(f"the content is {describe_content(start)}, not a raster that can be read here ({_KINDS})")
        return kind.driver

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return instances_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return alternatives([content_schema(name) for name in RASTER_TYPES])


SIGNATURE_BYTES = 512
"""How much of a content is looked at to say what it is."""

_KINDS = "GeoTIFF, PNG, JPEG, JPEG 2000 or WebP"


def find_raster_kind(start: bytes) -> RasterKind | None:
    """Return the kind of raster that begins with `start`, or None."""
    return next((kind for kind in RASTER_KINDS if kind.signature.match(start)), None)


def describe_content(start: bytes) -> str:
    """Say in words what content looks like from its first bytes."""
    kind = find_raster_kind(start)
    if kind is not None:
        return f"a raster of type {kind.media_type}"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty"
    if text.startswith((b"<!doctype html", b"<html", b"<!doctype")):
        return "an HTML page"
    if text.startswith((b"<?xml", b"<")):
        return "an XML document"
    if text.startswith((b"{", b"[")):
        return "a JSON document"
    return "of another kind"


# --- places ------------------------------------------------------------------------------------------------------

_CRS_FORM = re.compile(r"https?://\S+|urn:ogc:def:crs:\S+|[A-Za-z][A-Za-z0-9_-]*:[A-Za-z0-9]+")
_GEOGRAPHIC = frozenset(
    {CRS84, CRS84H, CRS84.replace("http:", "https:"), CRS84H.replace("http:", "https:"), "OGC:CRS84"}
)


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """
    A box along the axes of a coordinate reference system, edges included.

    In CRS84 a box may cross the antimeridian: then `xmin` is in the eastern hemisphere, `xmax` in the western, and the
    box is less than half the globe wide. Any other minimum above its maximum is refused.

    Raises
    ------
    Malformed
        If minima are above their maxima; names each.
    ValueError
        If a number is not finite, or the CRS has no form that could be known.

    References
    ----------
    OGC API - Processes Part 1, bbox.yaml; OGC API - Features Part 1, 7.15.3 (antimeridian).
    """

    xmin: float
    ymin: float
    xmax: float
    ymax: float
    zmin: float | None = None
    zmax: float | None = None
    crs: str = CRS84
    """URI, URN or ``AUTHORITY:CODE``. Axes are in the order that the CRS defines."""

    def __post_init__(self) -> None:
        numbers = [self.xmin, self.ymin, self.xmax, self.ymax, *(z for z in (self.zmin, self.zmax) if z is not None)]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("every number must be finite")
        if not _CRS_FORM.fullmatch(self.crs.strip("[]")):
            raise ValueError(f"crs {self.crs!r} is not known; send a URI such as {CRS84} or a code such as EPSG:4326")
        if faults := tuple(self._swapped()):
            raise Malformed(*faults)

    def _swapped(self) -> Iterator[Fault]:
        """Yield a fault for each minimum that is above its maximum."""
        pairs = [(self.xmin, self.xmax), (self.ymin, self.ymax), (self.zmin, self.zmax)]
        for place, (least, most) in enumerate(pairs):
            if least is None or most is None or least <= most or (place == 0 and self.crosses_antimeridian):
                continue
            word = ("first", "second", "third")[place]
            yield Fault(f"/bbox/{place}", f"the {word} minimum {least:g} is above its maximum {most:g}; swap them")

    @property
    def crosses_antimeridian(self) -> bool:
        """Whether the box runs eastward from `xmin` over 180 degrees to `xmax`."""
        return (
            self.crs.strip("[]") in _GEOGRAPHIC
            and 180 >= self.xmin > 0 > self.xmax >= -180
            and self.xmax + 360 - self.xmin < 180
        )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(xmin, ymin, xmax, ymax)``."""
        return (self.xmin, self.ymin, self.xmax, self.ymax)

    @classmethod
    def from_json(cls, document: Any) -> BoundingBox:
        """Return the box that a ``{"bbox": [...], "crs": ...}`` document says; raise ValueError when it says none."""
        if not isinstance(document, Mapping) or "bbox" not in document:
            raise ValueError('send a bounding box as {"bbox": [xmin, ymin, xmax, ymax], "crs": "…"}')
        numbers, crs = document["bbox"], document.get("crs", CRS84)
        if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) not in (4, 6):
            raise ValueError("bbox must be an array of 4 numbers, or 6 with heights")
        if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
            raise ValueError("bbox must hold numbers only")
        if not isinstance(crs, str):
            raise ValueError(f"crs must be a string, e.g. {CRS84}")  # noqa: TRY004 - pydantic wants ValueError
        try:
            floats = [float(number) for number in numbers]
        except OverflowError:
            raise ValueError("every number must be finite") from None
        if len(floats) == 4:
            xmin, ymin, xmax, ymax = floats
            return cls(xmin, ymin, xmax, ymax, crs=crs)
        xmin, ymin, zmin, xmax, ymax, zmax = floats
        return cls(xmin, ymin, xmax, ymax, zmin, zmax, crs=crs)

    def to_json(self) -> dict[str, Any]:
        """Return the ``{"bbox": …, "crs": …}`` document."""
        if self.zmin is None or self.zmax is None:
            return {"bbox": list(self.bounds), "crs": self.crs}
        return {"bbox": [self.xmin, self.ymin, self.zmin, self.xmax, self.ymax, self.zmax], "crs": self.crs}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return instances_of(cls, cls.from_json)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"allOf": [{"format": "ogc-bbox"}]}


# --- outputs -----------------------------------------------------------------------------------------------------


class _Output:
    """What the output types share: the description says content of their media types."""

    __slots__ = ()

    described_as: ClassVar[tuple[str, ...]]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return instances_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return alternatives([content_schema(name) for name in cls.described_as])


@dataclass(frozen=True, slots=True)
class GeoTIFF(_Output):
    """A GeoTIFF that the process has written below its folder."""

    path: Path
    media_type: str = field(default=GEOTIFF, init=False)
    described_as: ClassVar[tuple[str, ...]] = (GEOTIFF,)


@dataclass(frozen=True, slots=True)
class COG(_Output):
    """A cloud-optimized GeoTIFF that the process has written below its folder (GDAL's driver ``COG`` makes one)."""

    path: Path
    media_type: str = field(default=COG_TYPE, init=False)
    described_as: ClassVar[tuple[str, ...]] = (COG_TYPE,)


@dataclass(frozen=True, slots=True)
class OutputFile(_Output):
    """
    A file of any kind that the process has written below its folder.

    Without `media_type` the name's ending says it. Announce the type with ``Annotated[OutputFile, MediaType(…)]``.
    """

    path: Path
    media_type: str = ""
    described_as: ClassVar[tuple[str, ...]] = (OCTETS,)

    def __post_init__(self) -> None:
        if not self.media_type:
            object.__setattr__(self, "media_type", mimetypes.guess_type(self.path.name)[0] or OCTETS)


@dataclass(frozen=True, slots=True)
class Text(_Output):
    """Text of a media type; a plain ``str`` is a JSON string instead."""

    value: str
    media_type: str = "text/plain"
    described_as: ClassVar[tuple[str, ...]] = ("text/plain",)
