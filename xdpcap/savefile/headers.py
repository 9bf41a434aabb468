"""Builds the parts of a capture file that are not packets, as bytes.

pcapng follows draft-ietf-opsawg-pcapng, pcap follows draft-ietf-opsawg-pcap;
section numbers below are those of the drafts. Every number is little endian
(pcapng section 3.6.1 lets the writer choose; readers learn it from the magic).
Pure functions: no state, no thread, no file.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Sequence

from xdpcap import __version__

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
INTERFACE_STATISTICS = 5
ENHANCED_PACKET = 6

BYTE_ORDER_MAGIC = 0x1A2B3C4D
PCAP_MAGIC_NS = 0xA1B23C4D
PCAP_MAGIC_US = 0xA1B2C3D4

#: What `section_header` should name as the application; its first word marks our files.
APPLICATION = f"xdpcap {__version__}"

LINKTYPE_ETHERNET = 1
#: pcap section 4: SnapLen must not be zero; this is the most that libpcap and Wireshark accept.
PCAP_SNAPLEN_MAX = 262144

_END_OF_OPTIONS = b"\0\0\0\0"
_OPTION_LENGTH_MAX = 0xFFFF
_U64_MAX = (1 << 64) - 1


def section_header(hardware: str, os: str, application: str) -> bytes:
    """Section Header Block (4.1), of unknown section length (-1); an empty text is left out."""
    options = _text(2, hardware) + _text(3, os) + _text(4, application)
    return _block(SECTION_HEADER, struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1), options)


def interface_block(
    *,
    snaplen: int,
    name: str,
    linktype: int = LINKTYPE_ETHERNET,
    description: str | None = None,
    mac: bytes | None = None,
    speed_bps: int | None = None,
    tsresol: int = 9,
    tsoffset_s: int = 0,
    filter: str | None = None,
    os: str | None = None,
    comments: Sequence[str] = (),
) -> bytes:
    """Interface Description Block (4.2).

    `snaplen` in bytes, 0 for no limit. `tsresol` is the negative power of ten
    that timestamps count in (9: nanoseconds), `tsoffset_s` what is to be added
    to them. `filter` is a pcap-filter
    expression. What is None, empty, 0 or unknown (a speed of 0) is left out.
    """
    if mac is not None and len(mac) != 6:
        raise ValueError(f"a MAC address has 6 bytes, not {len(mac)}")
    options = b"".join(_text(1, comment) for comment in comments)
    options += _text(2, name) + _text(3, description)
    if mac is not None:
        options += _option(6, mac)
    if speed_bps:
        options += _option(8, struct.pack("<Q", speed_bps))
    options += _option(9, struct.pack("<B", tsresol))
    if filter:
        # The leading 0 says that a libpcap expression follows (the draft's example for if_filter).
        options += _option(11, b"\0" + _utf8(filter, _OPTION_LENGTH_MAX - 1))
    options += _text(12, os)
    if tsoffset_s:
        options += _option(14, struct.pack("<q", tsoffset_s))
    return _block(INTERFACE_DESCRIPTION, struct.pack("<HHI", linktype, 0, snaplen), options)


def interface_statistics(
    interface_id: int,
    ts_ns: int,
    *,
    starttime_ns: int | None = None,
    endtime_ns: int | None = None,
    ifrecv: int | None = None,
    ifdrop: int | None = None,
    filteraccept: int | None = None,
    osdrop: int | None = None,
    usrdeliv: int | None = None,
) -> bytes:
    """Interface Statistics Block (4.6); times in ns since 1970 UTC, counts in packets.

    A figure that is not known (None) is left out, which the draft provides for.
    The interface it refers to must have tsresol 9.
    """
    options = b""
    for code, time_ns in ((2, starttime_ns), (3, endtime_ns)):
        if time_ns is not None:
            options += _option(code, _timestamp(time_ns))
    for code, count in enumerate((ifrecv, ifdrop, filteraccept, osdrop, usrdeliv), start=4):
        if count is not None:
            options += _option(code, struct.pack("<Q", count))
    return _block(
        INTERFACE_STATISTICS, struct.pack("<I", interface_id) + _timestamp(ts_ns), options
    )


def enhanced_packet(interface_id: int, ts_ns: int, data: bytes, origlen: int) -> bytes:
    """Enhanced Packet Block (4.3) without options, of an interface with tsresol 9."""
    fixed = struct.pack("<I", interface_id) + _timestamp(ts_ns)
    body = fixed + struct.pack("<II", len(data), origlen) + data + bytes(-len(data) % 4)
    return _block(ENHANCED_PACKET, body, b"")


def pcap_record(ts_ns: int, data: bytes, origlen: int) -> bytes:
    """A record of a pcap file with nanoseconds (5); seconds have 32 bits and end in 2106."""
    seconds, fraction = divmod(ts_ns, 1_000_000_000)
    return struct.pack("<IIII", seconds & 0xFFFFFFFF, fraction, len(data), origlen) + data


def pcap_header(snaplen: int, linktype: int = LINKTYPE_ETHERNET) -> bytes:
    """pcap File Header (4) with nanosecond timestamps; a `snaplen` of 0 means no limit.

    The format has no value for "no limit", so 262144 stands for it: more than
    any packet here, and the most that libpcap and Wireshark take.
    """
    return struct.pack("<IHHIIII", PCAP_MAGIC_NS, 2, 4, 0, 0, snaplen or PCAP_SNAPLEN_MAX, linktype)


def host_hardware() -> str:
    """The machine's processor and architecture, for `section_header`."""
    machine = platform.machine() or "unknown machine"
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpuinfo:
            models = [line.split(":", 1)[1] for line in cpuinfo if line.startswith("model name")]
    except OSError:
        models = []
    # Arm and some others have no "model name"; the architecture alone must do there.
    return f"{' '.join(models[0].split())} ({machine})" if models else machine


def host_os() -> str:
    """Kernel name and release, and the distribution if it says what it is."""
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{kernel} ({platform.freedesktop_os_release()['PRETTY_NAME']})"
    except (OSError, KeyError):
        return kernel


def _block(block_type: int, fields: bytes, options: bytes) -> bytes:
    """General Block Structure (3.1): the total length stands at both ends."""
    body = fields + (options + _END_OF_OPTIONS if options else b"")
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", block_type) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    """One option (3.5): the length is without the padding to 32 bits."""
    padding = bytes(-len(value) % 4)
    return struct.pack("<HH", code, len(value)) + value + padding


def _text(code: int, text: str | None) -> bytes:
    return _option(code, _utf8(text, _OPTION_LENGTH_MAX)) if text else b""


def _utf8(text: str, length_max: int) -> bytes:
    """`text` as valid UTF-8 (3.6.3) without a NUL, which ends a string for a reader (3.5).

    Cut between characters at `length_max` bytes, since an option can't be longer.
    """
    encoded = text.replace("\0", "").encode("utf-8", "replace")
    return encoded[:length_max].decode("utf-8", "ignore").encode("utf-8")


def _timestamp(time_ns: int) -> bytes:
    """The upper 32 bits stand first (4.3), unlike in a little endian 64-bit number."""
    if not 0 <= time_ns <= _U64_MAX:
        raise ValueError(f"timestamp {time_ns} is outside 64 bits")
    return struct.pack("<II", time_ns >> 32, time_ns & 0xFFFFFFFF)
