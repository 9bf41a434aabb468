"""A sweep as a picture, by matplotlib, which is not among the required packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xdpcap.errors import UsageError, XdpcapError
from xdpcap.options.sweep import Dimension

SUFFIXES = (".svg", ".png", ".pdf")


def check_plot(path: str) -> None:
    """Raise UsageError, before anything is measured, for a picture that can't be made."""
    if Path(path).suffix not in SUFFIXES:
        raise UsageError(f"--plot {path}: end the name with {', '.join(SUFFIXES)}")
    if not Path(path).parent.is_dir():
        raise UsageError(f"--plot {path}: there is no such directory; make it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "--plot needs matplotlib; `pip install 'xdpcap[plot]'`, or leave --plot out"
        ) from None


def plot(
    path: str,
    title: str,
    dimensions: Sequence[Dimension],
    rows: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]],
) -> None:
    """Packets a second over the first setting, a line for each combination of the others."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines: defaultdict[tuple[str, ...], list[tuple[int, float]]] = defaultdict(list)
    for words, report in rows:
        lines[words[1:]].append((dimensions[0].words.index(words[0]), report["pps"] / 1e6))
    names = [dimension.name for dimension in dimensions[1:]]
    for words, points in lines.items():
        label = ", ".join(f"{name} {word}" for name, word in zip(names, words, strict=True))
        axes.plot(*zip(*points, strict=True), marker="o", label=label or None)
    axes.set_xticks(range(len(dimensions[0].words)), dimensions[0].words)
    axes.set_xlabel(dimensions[0].name)
    axes.set_ylabel("million packets a second")
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if names:
        axes.legend()
    try:
        figure.savefig(path)
    except OSError as exc:
        raise XdpcapError(f"--plot {path}: {exc.strerror}") from None
