"""docs/record.md says what the program does: every option, default, unit, code and example."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from xdpcap.cli.options import Quantity, SectionOption
from xdpcap.cli.record import record_command
from xdpcap.config import RecordConfig
from xdpcap.stats import REPORTED

MANUAL = (Path(__file__).parents[2] / "docs" / "record.md").read_text(encoding="utf-8")
OPTIONS = [option for option in record_command.params if isinstance(option, SectionOption)]
ROWS = {
    tuple(re.findall(r"`(-[^`]+)`", cells[1])): [cell.strip() for cell in cells[2:]]
    for cells in (line.split("|") for line in MANUAL.splitlines())
    if len(cells) > 4 and cells[1].strip().startswith("`-")
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: str(option.name))
def test_the_manual_has_each_option_with_its_unit_and_default(option: SectionOption) -> None:
    value, default, text = ROWS[tuple(option.opts)][:3]
    assert text.endswith((".", "it.", "alone."))
    if option.is_flag:
        assert value == ""
        return
    assert value, "what kind of value it takes"
    if isinstance(option.type, click.Choice):
        assert set(re.findall(r"`(\w+)`", value)) == set(option.type.choices) - {"offload"}
    elif isinstance(option.type, Quantity) and option.metavar is None:
        assert value.split(",")[0] == option.type.name.upper()
    else:
        assert value == option.metavar
    if option.default not in (None, "", ()):
        spelled = (
            option.type.spell(option.default)
            if isinstance(option.type, Quantity)
            else str(option.default)
        )
        assert default.strip("`") == spelled


def test_the_manual_has_no_option_that_does_not_exist() -> None:
    known = {name for option in OPTIONS for name in option.opts}
    known |= {"-h", "--help"}
    assert {name for names in ROWS for name in names} == known
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", MANUAL))
    # --rm is zstd's, in an example.
    assert mentioned <= known | {"--rm"}


def test_the_manual_explains_every_name_of_the_report() -> None:
    for name in REPORTED:
        assert f"`{name}`" in MANUAL


def examples() -> list[str]:
    """The commands of the last section."""
    section = MANUAL[MANUAL.index("## Examples") :]
    return [line.strip() for line in section.splitlines() if line.startswith("    xdpcap ")]


@pytest.mark.parametrize("command", examples())
def test_every_example_of_the_manual_and_the_help_is_accepted(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    words = shlex.split(re.split(r" [|>] ", command)[0])
    assert words[:2] == ["xdpcap", "record"]
    context = record_command.make_context("record", words[2:])
    RecordConfig(**context.params).validate()


def test_the_help_has_examples_that_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (record_command.epilog or "").splitlines()
    commands = [line.strip() for line in lines if line.startswith("  xdpcap ")]
    assert len(commands) >= 4
    for command in commands:
        test_every_example_of_the_manual_and_the_help_is_accepted(command, monkeypatch)
