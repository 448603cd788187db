"""Take figures of several servers in turn, and print their medians beside their bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

from servers import Running, verdict

Start = Callable[[], AbstractContextManager[Running]]
Figures = Mapping[tuple[str, str], list[float]]
"""``(figure, server) -> one value a round``."""


@dataclass(frozen=True)
class Bar:
    """What a server's median is to reach, as a multiple of another's."""

    figure: str
    of: str
    times: float
    server: str = "graticule"
    of_figure: str = ""
    """Another figure of the other one; empty: the same."""


def best(figures: Figures, figure: str, server: str) -> float | None:
    """Return the best median of a figure among the set-ups whose name is this, or begins with it and a comma."""
    medians = [
        median(values)
        for (what, name), values in figures.items()
        if what == figure and (name == server or name.startswith(f"{server},"))
    ]
    return max(medians, default=None)


def report(figures: Figures, bars: Iterable[Bar]) -> None:
    """Print all medians with their spread, then the ratios beside their bars."""
    print(f"\n{'figure':38} {'server':32} {'per second':>10}  [least .. most]")
    for (figure, name), values in sorted(figures.items()):
        print(f"{figure:38} {name:32} {median(values):10.0f}  [{min(values):.0f} .. {max(values):.0f}]")
    print(f"\n{'figure':38} {'of':22} {'against':26} {'ratio':>8} {'bar':>6}")
    for bar in bars:
        ours = best(figures, bar.figure, bar.server)
        theirs = best(figures, bar.of_figure or bar.figure, bar.of)
        if ours is not None and theirs is not None:
            ratio = ours / theirs
            pair = f"{bar.figure:38} {bar.server:22} {bar.of:26}"
            print(f"{pair} {ratio:8.2f} {bar.times:6g}  {verdict(ratio >= bar.times)}")
