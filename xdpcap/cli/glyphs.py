"""The signs that need more than ASCII, and what stands for them where the locale has only that."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box


@dataclass(frozen=True)
class Glyphs:
    """One set of signs. `bar` runs from empty to full; `ellipsis` marks what was cut."""

    bar: str
    ellipsis: str
    warning: str
    lines: box.Box

    def bar_of(self, fraction: float, width: int) -> str:
        """A bar of `width` cells, filled to `fraction`; anything above 0 shows."""
        steps = len(self.bar) - 1
        filled = round(min(max(fraction, 0.0), 1.0) * width * steps)
        if fraction > 0:
            filled = max(filled, 1)
        whole, part = divmod(filled, steps)
        text = self.bar[-1] * whole + (self.bar[part] if part else "")
        return text + self.bar[0] * (width - len(text))

    def cut_left(self, text: str, width: int) -> str:
        """The end of `text` in at most `width` cells: a file name differs most at its end."""
        if len(text) <= width:
            return text
        keep = max(width - len(self.ellipsis), 0)
        return (self.ellipsis + text[len(text) - keep :])[:width]


def _rules(sign: str, ascii_only: bool) -> box.Box:
    """A table of which only the lines below the head and above the foot are drawn."""
    empty, line = "    ", f" {sign}{sign} "
    rows = (empty, empty, line, empty, line, line, empty, empty)
    return box.Box("".join(row + "\n" for row in rows), ascii=ascii_only)


FULL = Glyphs(bar=" ▏▎▍▌▋▊▉█", ellipsis="…", warning="▲", lines=_rules("─", False))
PLAIN = Glyphs(bar=".#", ellipsis="..", warning="!", lines=_rules("-", True))


def glyphs_for(encoding: str) -> Glyphs:
    """The signs that a stream of this encoding can show."""
    return FULL if encoding.lower().replace("-", "") == "utf8" else PLAIN
