"""Graticule: a geoprocessing server and client.

The public names load when they are first used (PEP 562), so that ``import graticule`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graticule.processes.decorator import process
    from graticule.processes.process import Dismissed, InputValue, OutputValue, Process, RunContext
    from graticule.processes.values import (
        COG,
        BoundingBox,
        Feature,
        FeatureCollection,
        File,
        Geometry,
        GeoTIFF,
        MediaType,
        OneValue,
        OutputFile,
        Raster,
        Text,
    )

__version__ = "0.1.0"

_HOMES = {
    "process": "graticule.processes.decorator",
    "Dismissed": "graticule.processes.process",
    "InputValue": "graticule.processes.process",
    "OutputValue": "graticule.processes.process",
    "Process": "graticule.processes.process",
    "RunContext": "graticule.processes.process",
    "BoundingBox": "graticule.processes.values",
    "COG": "graticule.processes.values",
    "Feature": "graticule.processes.values",
    "FeatureCollection": "graticule.processes.values",
    "File": "graticule.processes.values",
    "GeoTIFF": "graticule.processes.values",
    "Geometry": "graticule.processes.values",
    "MediaType": "graticule.processes.values",
    "OneValue": "graticule.processes.values",
    "OutputFile": "graticule.processes.values",
    "Raster": "graticule.processes.values",
    "Text": "graticule.processes.values",
}

__all__ = [
    "COG",
    "BoundingBox",
    "Dismissed",
    "Feature",
    "FeatureCollection",
    "File",
    "GeoTIFF",
    "Geometry",
    "InputValue",
    "MediaType",
    "OneValue",
    "OutputFile",
    "OutputValue",
    "Process",
    "Raster",
    "RunContext",
    "Text",
    "__version__",
    "process",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'graticule' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
