"""Give back what was sent, after a pause if one is asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graticule.ogc.processes import Example, Input, Output, ProcessDescription
from graticule.processes.process import Inputs, InputValue, Outputs, OutputValue, RunContext

STEP_SECONDS = 0.1
"""How long a pause sleeps before it reports again and learns that it must stop."""

_STRING = {"type": "string"}
_COUNT = {"type": "integer"}
_MIXED = {"oneOf": [{"type": "string", "contentMediaType": "text/plain"}, {"type": "object"}]}
_NUMBERS = {"type": "array", "items": {"type": "integer"}}
_BBOX = {"allOf": [{"format": "ogc-bbox"}]}


def pause(seconds: float, context: RunContext) -> None:
    """Sleep, reporting progress; a dismissal ends the sleep at once.

    Parameters
    ----------
    seconds : float
        How long.
    context : RunContext
        Told of progress.
    """
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        context.report(int(100 * passed / seconds), f"pausing, {seconds - passed:.0f} s left")
        time.sleep(min(STEP_SECONDS, seconds - passed))


def echoed(value: InputValue, folder: Path) -> OutputValue:
    """Return an input as an output of the same media type; content that is a file is copied into the job's folder."""
    if value.value is not None or value.file is None:
        return OutputValue(value=value.value, media_type=value.media_type)
    copy = folder / f"echo-{value.pointer.strip('/').replace('/', '-') or value.file.name}"
    shutil.copyfile(value.file, copy)
    return OutputValue(file=copy, media_type=value.media_type)


def echo_inputs(inputs: Inputs, outputs: Mapping[str, Output], context: RunContext) -> dict[str, Any]:
    """Return every input that is also an output and was asked for."""
    wanted = {name: value for name, value in inputs.items() if name in outputs and name in context.wanted}
    return {
        name: [echoed(one, context.folder) for one in value]
        if isinstance(value, list)
        else echoed(value, context.folder)
        for name, value in wanted.items()
    }


class Echo:
    """
    Return each input as the output of the same name.

    The schemas are those that the official test suite of OGC API - Processes Part 1 needs to run all of its tests.
    Outputs without an input are left out. `count` is always there: the suite validates a results document against
    alternatives of which exactly one must hold, and an integer member decides that.
    """

    description = ProcessDescription(
        id="echo",
        version="1.0.0",
        title="Echo",
        description="Gives back each input as the output of the same name, after a pause if one is asked for.",
        keywords=["echo", "test"],
        inputs={
            "message": Input(title="Message", description="Any text.", schema=_STRING),
            "pause": Input(
                title="Pause",
                description="How long to wait before the answer, seconds.",
                min_occurs=0,
                schema={"type": "integer", "minimum": 0, "maximum": 60},
            ),
            "mixed": Input(title="Mixed", description="Plain text or an object.", min_occurs=0, schema=_MIXED),
            "numbers": Input(title="Numbers", description="A list of integers.", min_occurs=0, schema=_NUMBERS),
            "bbox": Input(title="Bounding box", description="A box, in CRS84 by default.", min_occurs=0, schema=_BBOX),
        },
        outputs={
            "message": Output(title="Message", schema=_STRING),
            "mixed": Output(title="Mixed", schema=_MIXED),
            "numbers": Output(title="Numbers", schema=_NUMBERS),
            "bbox": Output(title="Bounding box", schema=_BBOX),
            "count": Output(title="Count", description="How many inputs were sent.", schema=_COUNT),
        },
        examples=[
            Example(
                title="A message, some numbers and a box",
                inputs={
                    "message": "Is anybody there?",
                    "numbers": [1, 2, 3],
                    "bbox": {"bbox": [5.9, 45.8, 10.5, 47.8]},
                },
            ),
            Example(title="A slow answer", inputs={"message": "Five seconds later", "pause": 5}),
        ],
    )

    def run(self, inputs: Inputs, context: RunContext) -> Outputs:
        """Wait as long as `pause` says, then give back the inputs."""
        waiting = inputs.get("pause")
        if isinstance(waiting, InputValue) and waiting.value:
            pause(waiting.value, context)
        outputs = echo_inputs(inputs, self.description.outputs, context)
        if "count" in context.wanted:
            outputs["count"] = OutputValue(value=len(inputs))
        return outputs
