"""`@process`: a typed Python function becomes a process.

Its signature and docstring say all that a description needs. What is described is built when it is first asked for,
so that a module with many processes loads fast.

The annotation of a parameter says what its input is:

==========================================  ==========================================================================
annotation                                  input
==========================================  ==========================================================================
``str``, ``int``, ``float``, ``bool``       a literal
``Annotated[float, Field(ge=0, lt=1)]``     the same with bounds, lengths, patterns
``Literal["a", "b"]``, an ``Enum``          a literal with ``enum``
``datetime``, ``date``, ``UUID`` …          a string with ``format``
``X | None``, or a default                  ``minOccurs`` 0
``list[X]``, ``set[X]``                     several values; the lengths are ``minOccurs`` and ``maxOccurs``
``tuple[X, …]``                             ONE value, a JSON array; also ``Annotated[list[X], OneValue()]``
``dict``, a model, dataclass, TypedDict     an object
``X | Y``                                   ``oneOf``; ``anyOf`` where a value may fit both
`BoundingBox`                               a bounding box of the standard
`Geometry`, `Feature`, `FeatureCollection`  GeoJSON
`Raster`, `File`, ``bytes``                 binary by value, by reference or uploaded; ``MediaType`` says which types
==========================================  ==========================================================================

The return annotation says the outputs: a dataclass, TypedDict, NamedTuple or model of one's own gives one output per
field; anything else is one output named ``result``. A list of files is several values of it, any other list one JSON
array. ``None`` gives no output.

**Class form**: any object with a `description` (`ProcessDescription`) and ``run(inputs, context) -> outputs`` is a
process too, and so is a class that can be called without arguments to make one. It may compute its description.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar, cast, get_type_hints, overload

import docstring_parser
import msgspec
from docstring_parser import DocstringStyle
from pydantic import PydanticSchemaGenerationError, PydanticUserError

from graticule.errors import Fault, InvalidInputs, PluginNotLoaded
from graticule.ogc.processes import Example, JobControl, Limits, Output, ProcessDescription
from graticule.plugins import place_of
from graticule.processes.process import Inputs, Outputs, Process, RunContext
from graticule.processes.signatures import RESULT, InputParameter, ResultType, title_of

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the decorator was told."""

    id: str | None = None
    title: str | None = None
    version: str = "1.0.0"
    description: str | None = None
    keywords: Sequence[str] = ()
    job_control: Sequence[JobControl] = ("sync-execute", "async-execute", "dismiss")
    examples: Sequence[Example | Mapping[str, Any]] = ()
    outputs: Mapping[str, Output | str] = dataclasses.field(default_factory=dict)
    fresh: bool = False
    requires: str = ""
    time_limit_s: float | None = None
    memory_limit_mib: int | None = None
    disk_limit_mib: int | None = None
    log_limit_mib: int | None = None


@overload
def process(function: Callable[P, R], /) -> FunctionProcess[P, R]: ...


@overload
def process(
    *,
    id: str | None = None,
    title: str | None = None,
    version: str = "1.0.0",
    description: str | None = None,
    keywords: Sequence[str] = (),
    job_control: Sequence[JobControl] = ("sync-execute", "async-execute", "dismiss"),
    examples: Sequence[Example | Mapping[str, Any]] = (),
    outputs: Mapping[str, Output | str] | None = None,
    fresh: bool = False,
    requires: str = "",
    time_limit_s: float | None = None,
    memory_limit_mib: int | None = None,
    disk_limit_mib: int | None = None,
    log_limit_mib: int | None = None,
) -> Callable[[Callable[P, R]], FunctionProcess[P, R]]: ...


def process(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """
    Make a process of a typed function, bare or with options.

    The decorated function can still be called as before.

    Parameters
    ----------
    function : Callable, optional
        The function, when the decorator stands without parentheses.
    id : str, optional
        Default: the function's name with ``-`` for ``_``.
    title, description : str, optional
        Default: first line and further text of the docstring.
    version : str
        Of the process.
    keywords : Sequence[str]
        For those who search.
    job_control : Sequence[JobControl]
        The ways to run it. Leave out ``sync-execute`` for what always takes long.
    examples : Sequence[Example | Mapping[str, Any]]
        Ready requests: `title` and `inputs`. A sample file stands as ``{"href": "sample:NAME"}``.
    outputs : Mapping[str, Output | str], optional
        Output by name: its description in words, or all of it. A single output gets the name given here.
    fresh : bool
        Whether every job gets a process of its own, for code that leaves something behind.
    requires : str
        What a machine must have to run it, such as ``gpu``: its jobs run only where ``jobs.labels`` has that.
    time_limit_s, memory_limit_mib, disk_limit_mib, log_limit_mib : float or int, optional
        What one job may use: seconds from its beginning; MiB that it and all that it starts hold, of files in its
        folder, and of what it prints. 0: no limit. Default: as whoever runs the service has set it; they have the last
        word, too.

    Returns
    -------
    FunctionProcess
    """
    if function is not None:
        return FunctionProcess(function, Options())
    chosen = Options(**{name: value for name, value in options.items() if value is not None})
    return lambda decorated: FunctionProcess(decorated, chosen)


class FunctionProcess(Generic[P, R]):
    """A process that is a function."""

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        self.function = function
        self.options = options
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as it was written."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<process {self.id!r}>"

    @property
    def id(self) -> str:
        """The identifier; known without looking at the signature."""
        return self.options.id or self.function.__name__.replace("_", "-")

    @property
    def fresh(self) -> bool:
        """Whether every job wants a process of its own."""
        return self.options.fresh

    @property
    def requires(self) -> str:
        """What a machine must have to run it; empty: nothing."""
        return self.options.requires

    @property
    def limits(self) -> Limits:
        """What it says that one job may use."""
        return Limits(**{name: getattr(self.options, name) for name in Limits.__struct_fields__})

    @cached_property
    def description(self) -> ProcessDescription:
        """What is published; raises PluginNotLoaded when the signature cannot be described."""
        doc, options = self._docstring, self.options
        return ProcessDescription(
            id=self.id,
            version=options.version,
            title=options.title or (doc.short_description or "").rstrip(".") or title_of(self.id),
            description=options.description or _described(doc, titled=bool(options.title)),
            keywords=list(options.keywords) or None,
            job_control_options=list(options.job_control),
            inputs={one.name: one.description for one in self._parameters},
            outputs={one.name: one.description for one in self._results.outputs},
            examples=[_example(one) for one in options.examples] or None,
        )

    def run(self, inputs: Inputs, context: RunContext) -> Outputs:
        """
        Call the function with typed arguments and return its outputs.

        Raises
        ------
        InvalidInputs
            If a value does not fit its annotation, with every fault.
        ProcessFault
            If the function returned something other than it declares.
        """
        arguments: dict[str, Any] = {}
        faults: list[Fault] = []
        for parameter in self._parameters:
            if parameter.name in inputs:
                try:
                    arguments[parameter.name] = parameter.argument(inputs[parameter.name], context)
                except InvalidInputs as error:
                    faults.extend(error.faults)
        if faults:
            raise InvalidInputs(faults)
        if self._context_name is not None:
            arguments[self._context_name] = context
        results = self._results
        returned = cast("Callable[..., Any]", self.function)(**arguments)
        return results.outputs_of(returned, context)

    # --- looking at the function, once ---

    @cached_property
    def _docstring(self) -> docstring_parser.Docstring:
        return docstring_parser.parse(self.function.__doc__ or "", style=DocstringStyle.NUMPYDOC)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            unknown = getattr(error, "name", None)
            annotations = self.function.__annotations__.items()
            places = " and ".join(repr(name) for name, hint in annotations if unknown and unknown in str(hint))
            whose = f"the annotation of {places}" if places else "an annotation"
            raise self._refused(f"{whose} cannot be read ({error}); import or define what it names") from error

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def _context_name(self) -> str | None:
        """The parameter that takes the run context."""
        for name in self._signature.parameters:
            hint = self._hints.get(name)
            if hint is RunContext or (hint is None and name == "context"):
                return name
        return None

    @cached_property
    def _parameters(self) -> tuple[InputParameter, ...]:
        documented = {one.arg_name: one.description or "" for one in self._docstring.params}
        return tuple(
            self._parameter(parameter, documented.get(name))
            for name, parameter in self._signature.parameters.items()
            if name != self._context_name
        )

    def _parameter(self, parameter: inspect.Parameter, described: str | None) -> InputParameter:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise self._refused(f"parameter {name!r} has no name to send a value by; make it an ordinary one")
        if name not in self._hints:
            raise self._refused(f"parameter {name!r} has no annotation; write its type")
        try:
            return InputParameter.of(parameter, self._hints[name], described)
        except _NOT_DESCRIBABLE as error:
            reason = _why(error, self._hints[name])
            raise self._refused(f"the type of parameter {name!r} cannot be described: {reason}") from error

    @cached_property
    def _results(self) -> ResultType:
        if "return" not in self._hints:
            raise self._refused("it has no return annotation; write what it returns, or None")
        documented = {
            one.return_name or one.type_name or RESULT: one.description for one in self._docstring.many_returns
        }
        only = self._docstring.returns.description if self._docstring.returns is not None else None
        try:
            return ResultType.of(self._hints["return"], self.options.outputs, documented, only)
        except _NOT_DESCRIBABLE as error:
            reason = _why(error, self._hints["return"])
            raise self._refused(f"the return type cannot be described: {reason}") from error

    def _refused(self, reason: str) -> PluginNotLoaded:
        return PluginNotLoaded(place_of(self.function.__module__), f"function {self.function.__qualname__!r}: {reason}")


_NOT_DESCRIBABLE = (TypeError, ValueError, PydanticUserError, PydanticSchemaGenerationError)


def _why(error: Exception, hint: Any) -> str:
    if isinstance(error, PydanticSchemaGenerationError):
        kind = inspect.formatannotation(hint)
        return f"{kind} is no type that JSON can carry; use str, float, list, a dataclass …, or Raster, File or GeoJSON"
    return str(error).strip().partition("\n")[0]


def _example(example: Example | Mapping[str, Any]) -> Example:
    return example if isinstance(example, Example) else msgspec.convert(dict(example), Example)


# --- modules -----------------------------------------------------------------------------------------------------


def _described(doc: docstring_parser.Docstring, *, titled: bool) -> str | None:
    """Return the prose of a docstring; its first sentence belongs to it when the title says something else."""
    parts = [doc.short_description if titled else None, doc.long_description]
    paragraphs = [paragraph for part in parts if part for paragraph in part.split("\n\n")]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) or None


def discover(found: ModuleType | object) -> list[Process]:
    """
    Return the processes that a module defines, in the order in which they stand, or the one that an object is.

    Functions with `@process`, objects with `description` and `run`, and classes that make such objects. Those that a
    module imports from elsewhere count only when its ``__all__`` names them.

    Parameters
    ----------
    found : ModuleType or object
        An imported module, or an object of one.

    Returns
    -------
    list[Process]
        Empty if there is none.

    Raises
    ------
    PluginNotLoaded
        If a class cannot be made into a process, or two processes have one identifier.
    """
    if not isinstance(found, ModuleType):
        only = _as_process(found)
        return [] if only is None else [only]
    processes: list[Process] = []
    for one in _candidates(found):
        if one not in processes:
            processes.append(one)
    seen: set[str] = set()
    for one in processes:
        identifier = identifier_of(one)
        if identifier in seen:
            raise PluginNotLoaded(found.__name__, f"two processes have the identifier {identifier!r}")
        seen.add(identifier)
    return processes


def find_named(module: ModuleType, name: str) -> list[Process]:
    """
    Return the process that ``module:name`` stands for; empty if there is none.

    Parameters
    ----------
    module : ModuleType
        An imported module.
    name : str
        Of an object in it, also of one that it imports, as in an entry point; ``Holder.name`` looks inside. Otherwise
        the identifier of one of its processes, ``-`` and ``_`` counting alike. A module of that name gives all of its
        processes.

    Raises
    ------
    PluginNotLoaded
        As `discover` does.
    """
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if found := discover(value):
        return found
    by_identifier = {identifier_of(one): one for one in discover(module)}
    spellings = (name, name.replace("_", "-"), name.replace("-", "_"))
    return [by_identifier[spelling] for spelling in spellings if spelling in by_identifier][:1]


def identifier_of(process: Process) -> str:
    """Return the identifier of a process; that of a function is known without describing it."""
    return process.id if isinstance(process, FunctionProcess) else process.description.id


def _candidates(module: ModuleType) -> Iterator[Process]:
    exported = getattr(module, "__all__", None)
    for name, value in list(vars(module).items()):
        if exported is not None and name not in exported:
            continue
        home = value.__module__ if isinstance(value, type | FunctionProcess) else type(value).__module__
        if exported is None and isinstance(value, type | FunctionProcess) and home != module.__name__:
            continue
        if (one := _as_process(value)) is not None:
            yield one


def _as_process(value: Any) -> Process | None:
    """Return a value as a process: itself, or what a class makes; None when it is none."""
    if isinstance(value, FunctionProcess):
        return value
    if isinstance(value, type):
        concrete = not getattr(value, "_is_protocol", False) and not inspect.isabstract(value)
        return _made(value) if concrete and _looks_like_process(value) else None
    is_process = _looks_like_process(type(value)) or _looks_like_process(value)
    return cast("Process", value) if is_process else None


def _looks_like_process(value: Any) -> bool:
    # Looked up without running properties: a description may be slow to compute.
    missing = object()
    run = inspect.getattr_static(value, "run", missing)
    described = inspect.getattr_static(value, "description", missing)
    return run is not missing and (described is not missing or "description" in getattr(value, "__annotations__", {}))


def _made(kind: type[Any]) -> Process:
    try:
        made = kind()
    except TypeError as error:
        reason = (
            f"class {kind.__name__} cannot be called without arguments ({error}); bind an instance to a name instead"
        )
        raise PluginNotLoaded(f"{place_of(kind.__module__)}:{kind.__name__}", reason) from error
    return cast("Process", made)
