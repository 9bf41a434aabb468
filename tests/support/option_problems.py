"""The errors of options that can't work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xdpcap.errors import UsageError


def refusal_of(good: Any, **changes: Any) -> str:
    """The one line with which `good` with `changes` is refused."""
    with pytest.raises(UsageError) as caught:
        replace(good, **changes).validate()
    assert caught.value.exit_code == 2
    line = str(caught.value)
    assert "\n" not in line
    assert "; " in line, f"no way out: {line}"
    return line


def accepted(good: Any, **changes: Any) -> None:
    """`good` with `changes` is valid."""
    replace(good, **changes).validate()
