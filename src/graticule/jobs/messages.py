"""What travels between an agent and a job process: length-prefixed MessagePack frames over a socket.

Values never cross it, only names, small encoded results and progress; content is in files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from graticule.jobs.job import Failure, Manifest
from graticule.ogc.processes import Limits

_HEADER = struct.Struct("<I")

READ = 1 << 16
"""Bytes to ask a socket for at once. With 128 KiB or more the C library would map and unmap memory for each message,
and in a process with threads that interrupts every core."""


class ProcessRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a process is found: everything that a job process needs to load it."""

    kind: str = "python"
    """``python``: a module or file. ``pygeoapi``: a processor class of pygeoapi's plug-in interface."""
    target: str
    """Dotted module (``package.module``, or ``package.module:name``) or the path of a ``.py`` file."""
    id: str = ""
    """Identifier of the process; empty: all that the target holds."""
    options: str = ""
    """Configuration that the process is made with, as JSON (pygeoapi's processor definition)."""
    python: str = ""
    """Interpreter that runs it; empty: the server's own."""


class Describe(msgspec.Struct, frozen=True, kw_only=True, tag="describe"):
    """To a job process: load these and say what they are, then end."""

    refs: list[ProcessRef]


class Described(msgspec.Struct, frozen=True, kw_only=True, tag="described"):
    """From a job process: the descriptions found behind one reference, as JSON documents."""

    ref: ProcessRef
    documents: list[bytes] = []
    fresh: list[bool] = []
    """For each, whether it wants a new job process every time."""
    limits: list[Limits] = []
    """For each, what it says that its jobs may use."""
    requires: list[str] = []
    """For each, what a machine must have to run it; empty: nothing."""
    error: str = ""
    """Why the plug-in, or some of its processes, could not be loaded; `documents` has the others."""


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start", omit_defaults=True):
    """To a job process: run a job."""

    job: str
    ref: ProcessRef
    request: bytes
    """The execute request, as received."""
    folder: str
    """The job's own scratch folder; it is made when it is first needed."""
    policy: bytes = b""
    """How references are fetched: a ``ReferencePolicy`` as JSON."""
    trace: str = ""
    """The header ``traceparent`` (W3C) under which the job process goes on with the job's trace; empty: none."""


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag="ping"):
    """To a job process: answer when you do nothing else."""

    job: str


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag="pong"):
    """From a job process: the answer to a `Ping`; if it should be running that job then, it never got it."""

    job: str


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """From a job process: how far it is."""

    job: str
    percent: int
    message: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """From a job process: a job has ended well; its files lie in its folder."""

    job: str
    outputs: Manifest
    log_bytes: int = 0
    folder: bool = False
    """Whether the job made its scratch folder."""
    littered: bool = False
    """Whether it left anything that the next job would meet; the job process is then thrown away."""
    busy: bool = False
    """Whether something that it started goes on."""
    grown_mib: int = 0
    """Resident memory that the job process has gained since it was forked."""


class Broke(msgspec.Struct, frozen=True, kw_only=True, tag="broke"):
    """From a job process: a job has ended without success."""

    job: str
    failure: Failure
    log_bytes: int = 0
    busy: bool = False
    """Whether something that it started goes on."""


FromChild = Described | Progress | Done | Broke | Pong
ToChild = Describe | Start | Ping

_encoder = msgspec.msgpack.Encoder()
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)
_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)


encode = _encoder.encode
"""Returns a message as bytes."""


def framed(message: bytes) -> bytes:
    """Return an encoded message with its length in front."""
    return _HEADER.pack(len(message)) + message


def encode_frame(message: FromChild | ToChild) -> bytes:
    """Return a message with its length in front."""
    return framed(encode(message))


def decode_from_child(frame: bytes) -> FromChild:
    """Return the message that a job process sent."""
    return _from_child.decode(frame)


def decode_to_child(frame: bytes) -> ToChild:
    """Return the message that an agent sent."""
    return _to_child.decode(frame)


_LARGEST = 64 << 20
"""Bytes of the largest frame; the descriptions of ten thousand processes are smaller."""


class Frames:
    """Cuts what comes from a socket into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def unfinished(self) -> bool:
        """Whether the rest of a frame is still to come."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take received bytes and yield the frames that are complete; raises ValueError if these are no frames."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            (size,) = _HEADER.unpack_from(buffer)
            if size > _LARGEST:
                raise ValueError(f"a frame of {size} bytes")
            if len(buffer) < 4 + size:
                return
            frame = bytes(buffer[4 : 4 + size])
            del buffer[: 4 + size]
            yield frame
