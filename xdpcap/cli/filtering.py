"""The filter expression of a command, however it was given."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from xdpcap.errors import UsageError


def given_expression(
    words: Sequence[str], option: str | None = None, file: str | None = None
) -> str | None:
    """The expression: words joined by spaces, or `option` (-f), or from `file` (-F); None for none.

    As with tcpdump a `#` in a file begins a comment, and - is standard input. Raises UsageError for
    more than one of them, and for a file that can't be read.
    """
    names = ("the last arguments", "-f", "-F")
    given = [
        name
        for name, is_given in zip(names, (words, option is not None, file), strict=True)
        if is_given
    ]
    if len(given) > 1:
        raise UsageError(f"a filter in {' and in '.join(given)}; say it in one place")
    if file:
        return _read(file)
    return " ".join(words) if words else option


def _read(file: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"-F {file}: {error.strerror}; name a file with an expression") from None
    return re.sub(r"#[^\n]*", " ", text)
