"""Band-math expressions: text to a tree of our own, and the tree over arrays.

Nothing that a user writes is ever given to an evaluator as text. The parser knows numbers, names, a closed list of
operators and a closed list of functions; the tree is computed with numpy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graticule.errors import Fault, InvalidInputs

LONGEST_TEXT = 4000
"""Characters. A formula is a line or two; more is a mistake or an attempt to keep the parser busy."""

MOST_WORDS = 400
"""Numbers, names and signs. A chain of operators is as deep a tree as it is long."""

DEEPEST_NESTING = 40
"""Levels of parentheses, calls and signs. This and `MOST_WORDS` keep the recursion far below Python's own limit."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """A band, by its name."""

    name: str
    position: int
    """Characters before it in the text; used to name faults."""


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function over other nodes."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | Name | Call


@dataclass(frozen=True, slots=True)
class Function:
    """What a word of the language means."""

    ufunc: str
    """Name of the numpy function."""

    fewest: int
    most: int | None
    """How many arguments; None: any number, folded from the left."""

    logical: bool = False
    """True where arguments count as true or false (anything but 0 is true)."""


FUNCTIONS: Mapping[str, Function] = {
    "min": Function("minimum", 2, None),
    "max": Function("maximum", 2, None),
    "abs": Function("absolute", 1, 1),
    "sqrt": Function("sqrt", 1, 1),
    "exp": Function("exp", 1, 1),
    "log": Function("log", 1, 1),
    "log10": Function("log10", 1, 1),
    "sin": Function("sin", 1, 1),
    "cos": Function("cos", 1, 1),
    "tan": Function("tan", 1, 1),
    "floor": Function("floor", 1, 1),
    "ceil": Function("ceil", 1, 1),
    "round": Function("rint", 1, 1),
    "where": Function("where", 3, 3),
}
"""Functions that a text may call. `log` is the natural logarithm, angles are radians, `round` takes halves to even."""

_OPERATORS: Mapping[str, Function] = {
    "+": Function("add", 2, 2),
    "-": Function("subtract", 2, 2),
    "*": Function("multiply", 2, 2),
    "/": Function("divide", 2, 2),
    "%": Function("mod", 2, 2),
    "**": Function("power", 2, 2),
    "<": Function("less", 2, 2),
    "<=": Function("less_equal", 2, 2),
    ">": Function("greater", 2, 2),
    ">=": Function("greater_equal", 2, 2),
    "==": Function("equal", 2, 2),
    "!=": Function("not_equal", 2, 2),
    "and": Function("logical_and", 2, 2, logical=True),
    "or": Function("logical_or", 2, 2, logical=True),
    "not": Function("logical_not", 1, 1, logical=True),
    "negative": Function("negative", 1, 1),
}

_COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!="})
_RESERVED = frozenset({"and", "or", "not"})
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/%^<>(),]))",
    re.ASCII,
)


def parse_expression(text: str, *, pointer: str = "/inputs/expression") -> Node:
    """
    Return the tree of a band-math text.

    From loosest to tightest: ``or``, ``and``, ``not``, one comparison, ``+ -``, ``* / %``, sign, ``**`` (also ``^``;
    right to left, tighter than a sign before it). ``min max abs sqrt exp log log10 sin cos tan floor ceil round
    where`` are functions.

    Parameters
    ----------
    text : str
        The formula, e.g. ``(nir - red) / (nir + red)``.
    pointer : str
        Where the text stood in the request; named in faults.

    Returns
    -------
    Node
        The tree.

    Raises
    ------
    InvalidInputs
        If the text is no formula; the fault tells the place and what would fit.

    Examples
    --------
    >>> sorted(names_in(parse_expression("(nir - red) / (nir + red)")))
    ['nir', 'red']
    """
    if len(text) > LONGEST_TEXT:
        raise InvalidInputs([Fault(pointer, f"is longer than {LONGEST_TEXT} characters; split the formula")])
    return _Parser(text, pointer).parse()


def names_in(node: Node) -> frozenset[str]:
    """Return the names of the bands that a tree uses."""
    return frozenset(name.name for name in iter_names(node))


def iter_names(node: Node) -> Iterator[Name]:
    """Yield the names in a tree, from left to right."""
    if isinstance(node, Name):
        yield node
    elif isinstance(node, Call):
        for argument in node.arguments:
            yield from iter_names(argument)


def evaluate(node: Node, bands: Mapping[str, Any]) -> Any:
    """
    Return the value of a tree over arrays.

    Parameters
    ----------
    node : Node
        The tree.
    bands : Mapping[str, Any]
        Float arrays of one shape by name; each name in the tree is there.

    Returns
    -------
    Any
        A float array of that shape, or a number if the tree names no band. Where the formula has no value (division
        by zero, root of a negative number) it is not finite. A comparison is 1 where it holds and 0 elsewhere.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        return np.asarray(_value(node, bands), dtype="float64")


def _value(node: Node, bands: Mapping[str, Any]) -> Any:
    import numpy as np

    if isinstance(node, Number):
        return np.float64(node.value)
    if isinstance(node, Name):
        return bands[node.name]
    meaning = FUNCTIONS.get(node.function) or _OPERATORS[node.function]
    ufunc = getattr(np, meaning.ufunc)
    values = [_value(argument, bands) for argument in node.arguments]
    if meaning.logical:
        return ufunc(*(_truth(value) for value in values))
    if meaning.ufunc == "where":
        return ufunc(_truth(values[0]), *(_number(value) for value in values[1:]))
    result, *others = (_number(value) for value in values)
    if not others:
        return ufunc(result)
    for other in others:
        result = ufunc(result, other)
    return result


def _number(value: Any) -> Any:
    return value.astype("float64") if value.dtype == bool else value


def _truth(value: Any) -> Any:
    return value if value.dtype == bool else value != 0


class _Parser:
    """Recursive descent, one method a level."""

    def __init__(self, text: str, pointer: str) -> None:
        self._text = text
        self._pointer = pointer
        self._depth = 0
        self._tokens = list(self._iter_tokens())
        self._next = 0

    def parse(self) -> Node:
        if not self._tokens:
            raise self._fault("is empty; write a formula such as (b2 - b1) / (b2 + b1)")
        if len(self._tokens) > MOST_WORDS:
            raise self._fault(f"has more than {MOST_WORDS} numbers, names and signs; split the formula")
        node = self._either()
        if self._next < len(self._tokens):
            _, word, position = self._tokens[self._next]
            raise self._fault(f"has {word!r} at character {position + 1} where an operator or the end is expected")
        return node

    def _iter_tokens(self) -> Iterator[tuple[str, str, int]]:
        end = len(self._text.rstrip())
        position = 0
        while position < end:
            match = _TOKEN.match(self._text, position)
            if match is None:
                start = position + len(self._text[position:]) - len(self._text[position:].lstrip())
                raise self._fault(
                    f"has {self._text[start]!r} at character {start + 1}, which is not part of this language; use"
                    " numbers, band names, + - * / % ** < <= > >= == != and or not, parentheses and functions"
                )
            kind = str(match.lastgroup)
            yield kind, match.group(kind), match.start(kind)
            position = match.end()

    def _fault(self, message: str) -> InvalidInputs:
        return InvalidInputs([Fault(self._pointer, message)])

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self, *words: str) -> str:
        word = self._peek()
        if word not in words:
            return ""
        self._next += 1
        return word

    def _expect(self, word: str, why: str) -> None:
        if not self._take(word):
            found = self._tokens[self._next] if self._next < len(self._tokens) else None
            place = f"{found[1]!r} at character {found[2] + 1}" if found else "the end"
            raise self._fault(f"has {place} where {word!r} {why}")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise self._fault(f"is nested deeper than {DEEPEST_NESTING} levels; simplify the formula")

    def _call(self, function: str, *arguments: Node) -> Call:
        return Call(function, arguments)

    def _either(self) -> Node:
        self._deeper()
        node = self._both()
        while self._take("or"):
            node = self._call("or", node, self._both())
        self._depth -= 1
        return node

    def _both(self) -> Node:
        node = self._opposite()
        while self._take("and"):
            node = self._call("and", node, self._opposite())
        return node

    def _opposite(self) -> Node:
        if not self._take("not"):
            return self._comparison()
        self._deeper()
        node = self._call("not", self._opposite())
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        node = self._sum()
        if operator := self._take(*_COMPARISONS):
            node = self._call(operator, node, self._sum())
            if self._peek() in _COMPARISONS:
                raise self._fault("compares three things in a row; write a < b and b < c")
        return node

    def _sum(self) -> Node:
        node = self._product()
        while operator := self._take("+", "-"):
            node = self._call(operator, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while operator := self._take("*", "/", "%"):
            node = self._call(operator, node, self._signed())
        return node

    def _signed(self) -> Node:
        sign = self._take("+", "-")
        if not sign:
            return self._power()
        self._deeper()
        node = self._signed()
        self._depth -= 1
        return self._call("negative", node) if sign == "-" else node

    def _power(self) -> Node:
        node = self._atom()
        if self._take("**", "^"):
            self._deeper()
            node = self._call("**", node, self._signed())
            self._depth -= 1
        return node

    def _atom(self) -> Node:
        if self._next >= len(self._tokens):
            raise self._fault("ends where a number, a band name or '(' is expected")
        kind, word, position = self._tokens[self._next]
        self._next += 1
        if kind == "number":
            return Number(float(word))
        if word == "(":
            node = self._either()
            self._expect(")", "should close a parenthesis")
            return node
        if kind != "name" or word in _RESERVED:
            raise self._fault(
                f"has {word!r} at character {position + 1} where a number, a band name or '(' is expected"
            )
        if self._peek() == "(":
            return self._function(word, position)
        if word in FUNCTIONS:
            raise self._fault(f"names the function {word!r} at character {position + 1} without arguments")
        return Name(word, position)

    def _function(self, word: str, position: int) -> Node:
        meaning = FUNCTIONS.get(word)
        if meaning is None:
            known = ", ".join(sorted(FUNCTIONS))
            raise self._fault(f"calls {word!r} at character {position + 1}; the functions are {known}")
        self._expect("(", "should open the arguments")
        arguments = [] if self._peek() == ")" else [self._either()]
        while self._take(","):
            arguments.append(self._either())
        self._expect(")", f"should close the arguments of {word}")
        most = len(arguments) if meaning.most is None else meaning.most
        if not meaning.fewest <= len(arguments) <= most:
            wanted = f"{meaning.fewest} or more" if meaning.most is None else str(meaning.most)
            raise self._fault(f"gives {word} {len(arguments)} argument(s); it takes {wanted}")
        return Call(word, tuple(arguments))
