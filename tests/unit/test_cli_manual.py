"""The pages of docs/ on the commands say what they do: every option, default, example."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from xdpcap.cli.dump import dump_command, dump_options
from xdpcap.cli.options import Quantity, SectionOption
from xdpcap.cli.record import record_command, record_options
from xdpcap.cli.replay import replay_command
from xdpcap.cli.split import split_command
from xdpcap.options.replay import ReplayOptions
from xdpcap.record.ledger import REPORTED

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS: dict[str, click.Command] = {
    "record": record_command,
    "replay": replay_command,
    "split": split_command,
    "dump": dump_command,
}
CONFIGS: dict[str, Any] = {"record": record_options, "replay": ReplayOptions, "dump": dump_options}


@dataclass(frozen=True)
class Manual:
    """One page, the commands that it describes, and where each one's options are."""

    page: str
    sections: dict[str, str]

    @property
    def text(self) -> str:
        return (DOCS / self.page).read_text(encoding="utf-8")

    def rows(self, command: str) -> dict[tuple[str, ...], list[str]]:
        """The cells of each option's row, by its names."""
        text = self.text
        begin = text.index(self.sections[command])
        others = [text.index(other) for other in self.sections.values()]
        end = min((other for other in others if other > begin), default=len(text))
        cut = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
            for line in text[begin:end].splitlines()
        ]
        return {
            tuple(re.findall(r"`(-[^`]+)`", cells[1])): cells[2:-1]
            for cells in cut
            if len(cells) > 4 and cells[1].startswith("`-")
        }


RECORD = Manual("record.md", {"record": "# xdpcap record"})
REPLAY = Manual("replay.md", {"replay": "# xdpcap replay", "split": "## xdpcap split"})
DUMP = Manual("dump.md", {"dump": "# xdpcap dump"})
MANUALS = (RECORD, REPLAY, DUMP)


def options_of(command: str) -> list[SectionOption]:
    return [o for o in COMMANDS[command].params if isinstance(o, SectionOption)]


def names_of(option: click.Option) -> tuple[str, ...]:
    return (*option.opts, *option.secondary_opts)


EVERY_OPTION = [
    pytest.param(manual, command, option, id=f"{command}-{option.name}")
    for manual in MANUALS
    for command in manual.sections
    for option in options_of(command)
]


@pytest.mark.parametrize(("manual", "command", "option"), EVERY_OPTION)
def test_the_manual_has_each_option_with_its_unit_and_default(
    manual: Manual, command: str, option: SectionOption
) -> None:
    value, *default, text = manual.rows(command)[names_of(option)]
    assert text.endswith((".", "it.", "alone."))
    if option.is_flag or option.count:
        assert value == ""
        return
    assert value, "what kind of value it takes"
    if isinstance(option.type, click.Choice):
        # Refused with a reason, so not offered.
        refused = {"offload"} if command == "record" else set()
        assert set(re.findall(r"`(\w+)`", value)) == set(option.type.choices) - refused
    elif isinstance(option.type, Quantity) and option.metavar is None:
        assert value.split(",")[0] == option.type.name.upper()
    else:
        assert value.replace("\\|", "|") == option.metavar
    if option.default not in (None, "", ()):
        spelled = (
            option.type.spell(option.default)
            if isinstance(option.type, Quantity)
            else str(option.default)
        )
        assert default[0].strip("`") == spelled


@pytest.mark.parametrize("manual", MANUALS, ids=lambda manual: manual.page)
def test_the_manual_has_no_option_that_does_not_exist(manual: Manual) -> None:
    every = {"-h", "--help"}
    for command in manual.sections:
        known = {name for option in options_of(command) for name in names_of(option)}
        listed = {name for names in manual.rows(command) for name in names}
        assert listed - {"-h", "--help"} == known
        every |= known
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", manual.text))
    # --rm is zstd's, in an example.
    assert mentioned <= every | {"--rm"}


def test_the_manual_of_record_explains_every_name_of_the_report() -> None:
    for name in REPORTED:
        assert f"`{name}`" in RECORD.text


def examples(manual: Manual) -> list[str]:
    """The commands of the last section."""
    section = manual.text[manual.text.index("## Examples") :]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


def help_examples(command: str) -> list[str]:
    lines = (COMMANDS[command].epilog or "").splitlines()
    return [line.strip() for line in lines if re.match(r"  (xdpcap|tcpdump) ", line)]


def accept(line: str) -> None:
    """Parse and check the part of a shell's line that is ours."""
    part = next(p for p in re.split(r" [|>] ", line) if p.startswith("xdpcap "))
    _, command, *words = shlex.split(part)
    context = COMMANDS[command].make_context(command, words)
    if command in CONFIGS:
        CONFIGS[command](**context.params).validate()


@pytest.mark.parametrize("line", [line for manual in MANUALS for line in examples(manual)])
def test_every_example_of_the_manuals_is_accepted(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    accept(line)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_examples_that_are_accepted(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    lines = help_examples(command)
    assert len(lines) >= 3
    for line in lines:
        accept(line)
