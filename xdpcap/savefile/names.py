"""What capture files are called.

A template is checked and taken apart once, when it is configured; `render`
then makes a name that is one path component and nothing else, and `pattern`
recognises the names a template made earlier, which retention goes by.
Immutable after construction, so any thread may use it.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from xdpcap.errors import UsageError

DEFAULT_TEMPLATE = "{interface}-q{queue}-{start}-{sequence:06d}.{ext}"
FIELDS = ("interface", "queue", "start", "sequence", "ext", "host")

#: Ends the name of a file that is being written.
PART_SUFFIX = ".part"
#: limits.h; the suffix and the ".N" of a name that was taken must fit as well.
_NAME_BYTES_MAX = 255 - len(PART_SUFFIX) - 4

_INTEGER_SPEC = re.compile(r"(?P<width>0[1-9]\d?)?(?P<type>[dxX]?)")
_DIGITS = {"": r"\d", "d": r"\d", "x": "[0-9a-f]", "X": "[0-9A-F]"}

# strftime(3) codes that can neither bring a "/" (as %D and %x do) nor a line
# break into a name, and what each looks like.
_WORD, _TWO, _SPACED = r"\w+", r"\d\d", r"[ \d]\d"
_TIME_CODES = {
    **dict.fromkeys("aAbBhp", _WORD),
    **dict.fromkeys("CdgHIMmSUVWy", _TWO),
    **dict.fromkeys("ekl", _SPACED),
    "F": r"\d{4,}-\d\d-\d\d",
    "f": r"\d{6}",
    "G": r"\d{4,}",
    "j": r"\d{3}",
    "R": r"\d\d:\d\d",
    "s": r"\d+",
    "T": r"\d\d:\d\d:\d\d",
    "u": r"\d",
    "w": r"\d",
    "Y": r"\d{4,}",
    "Z": "UTC",
    "z": r"\+0000",
    "%": "%",
}
_START_PATTERN = r"\d{8}T\d{6}\.\d{9}Z"


@dataclass(frozen=True)
class _File:
    """What a name may tell of its file; texts are safe in a file name already."""

    interface: str
    queue: int
    start_ns: int
    sequence: int


@dataclass(frozen=True)
class _Piece:
    """One part of a template: how to write it, and what it looks like when written."""

    render: Callable[[_File], str]
    pattern: str
    field: str = ""


class NameTemplate:
    """A `--name` template: text, {fields} and strftime codes (in UTC).

    `{sequence:06d}` and `{queue:02d}` take a zero-padded width and d, x or X;
    `{start}` takes strftime codes, and without any is the start to the
    nanosecond. The constructor raises UsageError for what can't be a template
    at all, `check` for what can't name the files of this recording.
    """

    def __init__(self, template: str = DEFAULT_TEMPLATE, *, ext: str = "pcapng", host: str = ""):
        self.template = template
        self._texts = {"ext": ext, "host": safe_text(host or os.uname().nodename)}
        self._pieces = self._parse()

    def render(self, interface: str, queue: int, start_ns: int, sequence: int) -> str:
        """The file's name: one path component, without directory and without ".part"."""
        file = _File(safe_text(interface), queue, start_ns, sequence)
        return "".join(piece.render(file) for piece in self._pieces)

    def pattern(self, interfaces: Iterable[str]) -> re.Pattern[str]:
        """Matches (with `fullmatch`) every name this template makes for `interfaces`.

        Of any queue, time and sequence, so of earlier recordings too.
        """
        either = "|".join(re.escape(safe_text(interface)) for interface in interfaces)
        pieces = (f"(?:{either})" if p.field == "interface" else p.pattern for p in self._pieces)
        return re.compile("".join(pieces), re.ASCII)

    def check(self, sources: Iterable[tuple[str, int]], rotating: bool) -> None:
        """UsageError if two files of `sources`, (interface, queue) pairs, would share a name.

        `rotating` says that a source may write more than one file.
        """
        fields = {piece.field for piece in self._pieces}
        if rotating and not fields & {"sequence", "fraction"}:
            raise self._error(
                "a file that begins within the same second would get the same name; "
                "add {sequence} or {start}"
            )
        missing = [f"{{{field}}}" for field in ("queue", "interface") if field not in fields]
        way_out = f"add {missing[0]}" if missing else "put text between {interface} and {queue}"
        names: dict[str, tuple[str, int]] = {}
        for source in sources:
            # The same start and number for all: what else there is must tell them apart.
            name = self.render(*source, 1_000_000_000_123_456_789, 1)
            self._check_length(name)
            other = names.setdefault(name, source)
            if other != source:
                raise self._error(
                    f"{other[0]} queue {other[1]} and {source[0]} queue {source[1]} would both "
                    f"write {name}; {way_out}"
                )

    def _check_length(self, name: str) -> None:
        length = len(os.fsencode(name))
        if length > _NAME_BYTES_MAX:
            raise self._error(
                f"names would have {length} bytes; shorten it to at most {_NAME_BYTES_MAX}"
            )

    def _parse(self) -> list[_Piece]:
        if "/" in self.template:
            raise self._error("a name can't contain '/'; choose the directory with --output")
        if ".." in self.template:
            raise self._error("a name can't contain '..'; files stay inside the directory")
        if any(ord(c) < 32 or ord(c) == 127 for c in self.template):
            raise self._error("a name can't contain control characters; leave them out")
        pieces: list[_Piece] = []
        try:
            for text, field, spec, conversion in string.Formatter().parse(self.template):
                pieces += self._time_pieces(text)
                if field is not None:
                    pieces += self._field_pieces(field, spec or "", conversion)
        except ValueError as error:
            raise self._error(f"{error}; write a literal brace twice") from None
        return self._whole_name(pieces)

    def _whole_name(self, pieces: list[_Piece]) -> list[_Piece]:
        """Refuses names that mean something else to the file system or to this program."""
        name = "".join(piece.render(_File("i", 0, 0, 0)) for piece in pieces)
        if not name.strip():
            raise self._error("the name would be empty; leave the option out for the default")
        if name == ".":
            raise self._error("'.' is the directory itself; add text or a field")
        if name.endswith(PART_SUFFIX):
            raise self._error(f"{PART_SUFFIX} marks files being written; choose another ending")
        return pieces

    def _field_pieces(self, field: str, spec: str, conversion: str | None) -> list[_Piece]:
        if field not in FIELDS:
            raise self._error(f"no field {{{field}}}; the fields are {_field_list()}")
        if conversion:
            raise self._error(f"{{{field}!{conversion}}}: conversions make no name; drop the '!'")
        if field in ("queue", "sequence"):
            return [self._integer_piece(field, spec)]
        if field == "start":
            return self._time_pieces(spec) if spec else [_Piece(_start, _START_PATTERN, "fraction")]
        if spec:
            raise self._error(f"{{{field}:{spec}}}: a text takes no format; write {{{field}}}")
        if field == "interface":
            return [_Piece(lambda file: file.interface, "", field)]
        return [_literal(self._texts[field])]

    def _integer_piece(self, field: str, spec: str) -> _Piece:
        parts = _INTEGER_SPEC.fullmatch(spec)
        if parts is None:
            raise self._error(
                f"{{{field}:{spec}}}: not a format for a number in a name; "
                f"write {{{field}}} or a zero-padded width as in {{{field}:06d}}"
            )
        digit = _DIGITS[parts["type"]]
        pattern = f"{digit}{{{int(parts['width'] or 1)},}}"
        return _Piece(lambda file: format(getattr(file, field), spec), pattern, field)

    def _time_pieces(self, text: str) -> list[_Piece]:
        """Text with strftime codes, split at each code."""
        head, *rest = re.split(r"(%.?)", text, flags=re.DOTALL)
        pieces = [_literal(head)] if head else []
        for code, literal in zip(rest[::2], rest[1::2], strict=True):
            if code[1:] not in _TIME_CODES:
                raise self._error(
                    f"{code!r} is no time code for a name; "
                    f"there are %{' %'.join(_TIME_CODES)} (UTC)"
                )
            pieces.append(_time_piece(code))
            if literal:
                pieces.append(_literal(literal))
        return pieces

    def _error(self, cause: str) -> UsageError:
        return UsageError(f"--name {self.template!r}: {cause}")


def safe_text(text: str) -> str:
    """`text` for use inside a file name: other bytes than letters, digits and _ ~ - . as %XX.

    The kernel refuses "/", ":", white space, "." and ".." as interface names
    (net/core/dev.c, dev_valid_name) and takes every other byte, also control
    characters and what isn't UTF-8. Different texts stay different. A leading
    "." or "-" is encoded too: it would hide a file or look like an option.
    """
    encoded = quote(os.fsencode(text), safe="")
    return f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded[:1] in ("-", ".") else encoded


def start_text(start_ns: int) -> str:
    """`start_ns` (since 1970 UTC) as 20261121T093000.123456789Z: sorts as text, no ':'."""
    seconds, nanoseconds = divmod(start_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}.{nanoseconds:09d}Z"


def _start(file: _File) -> str:
    return start_text(file.start_ns)


def _literal(text: str) -> _Piece:
    return _Piece(lambda file: text, re.escape(text))


def _time_piece(code: str) -> _Piece:
    return _Piece(
        lambda file: _strftime(file.start_ns, code),
        _TIME_CODES[code[1]],
        "fraction" if code == "%f" else "",
    )


def _strftime(start_ns: int, code: str) -> str:
    seconds, nanoseconds = divmod(start_ns, 1_000_000_000)
    if code == "%s":
        # strftime(3) would take the fields for local time.
        return str(seconds)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    return moment.strftime(code)


def _field_list() -> str:
    return " ".join(f"{{{field}}}" for field in FIELDS)
