from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import msgspec
import pytest

from graticule.processes import builtin
from graticule.processes.decorator import discover
from graticule.processes.inputs import InputChecker, ReferencePolicy
from graticule.processes.resolve import resolve_inputs
from graticule.processes.samples import SAMPLES

MODULES = [module.name for module in pkgutil.iter_modules(builtin.__path__)]
PROCESSES = {
    process.description.id: process
    for name in MODULES
    for process in discover(importlib.import_module(f"{builtin.__name__}.{name}"))
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use .@. matmul:PendingDeprecationWarning"
)  # rasterio 1.4 does it the older way

EXAMPLES = [
    pytest.param(process, example, id=f"{name}: {example.title}")
    for name, process in PROCESSES.items()
    for example in process.description.examples
]
ALLOWED = {
    "title", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "required",
    "enum", "type", "not", "allOf", "oneOf", "anyOf", "items", "properties", "additionalProperties",
    "description", "format", "default", "nullable", "readOnly", "writeOnly", "example", "deprecated",
    "contentMediaType", "contentEncoding", "contentSchema",
}  # fmt: skip
"""Keywords that a schema may have in both editions."""


def words_in(schema):
    """Yield the keywords of a schema and of all schemas in it."""
    yield from schema
    for word, value in schema.items():
        inner = value.values() if word == "properties" else value if isinstance(value, list) else [value]
        if word in {"not", "allOf", "oneOf", "anyOf", "items", "properties"}:
            for one in inner:
                yield from words_in(one)


def on_samples(inputs, samples):
    """Return the inputs of an example with the addresses of sample files in their places."""
    text = json.dumps(inputs)
    for name in SAMPLES:
        text = text.replace(f"sample:{name}", f"http://127.0.0.1:8080/files/samples/{name}")
    assert "sample:" not in text
    return json.loads(text), ReferencePolicy(
        local_files={f"http://127.0.0.1:8080/files/samples/{name}": str(samples / name) for name in SAMPLES}
    )


def test_each_file_holds_the_process_of_its_name():
    assert sorted(PROCESSES) == sorted(name.replace("_", "-") for name in MODULES)


def test_the_processes_that_are_promised_are_there():
    promised = "hello-world echo echo-all buffer raster-statistics band-math zonal-statistics reproject"

    assert set(promised.split()) <= set(PROCESSES)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_a_description_tells_all_that_a_reader_needs(process):
    described = process.description

    assert described.title
    assert len(described.description) > 40
    assert described.keywords
    assert described.examples
    assert all(one.description for one in described.inputs.values())


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_schemas_keep_to_the_words_that_both_editions_share(process):
    members = [*process.description.inputs.values(), *process.description.outputs.values()]

    assert {word for one in members for word in words_in(one.schema)} <= ALLOWED


@pytest.mark.parametrize(("process", "example"), EXAMPLES)
def test_an_example_is_a_request_without_faults(process, example, samples):
    inputs, policy = on_samples(example.inputs, samples)

    assert InputChecker(process.description).check(inputs, None, policy) == ()


@pytest.mark.parametrize(("process", "example"), [example for example in EXAMPLES if "slow" not in example.id.lower()])
def test_an_example_runs(process, example, samples, context):
    inputs, policy = on_samples(example.inputs, samples)
    context.wanted = frozenset(process.description.outputs)

    outputs = process.run(resolve_inputs(process.description, inputs, policy=policy, folder=context.folder), context)

    assert outputs
    for output in outputs.values():
        for one in output if isinstance(output, list) else [output]:
            assert one.file is None or one.file.is_file()
            assert msgspec.json.encode(one.value)


def test_describing_the_processes_loads_no_heavy_library():
    code = f"""
import importlib, sys
from graticule.processes.decorator import discover
for name in {MODULES!r}:
    [process.description for process in discover(importlib.import_module("{builtin.__name__}." + name))]
print(*{{"numpy", "rasterio", "shapely", "pyproj", "exactextract"}} & set(sys.modules))
"""

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.split() == []
