"""`xdpcap interfaces`: what there is to record from, as `tcpdump -D` lists it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from xdpcap.cli.columns import pick_layout, ruled_table, widths_of
from xdpcap.cli.glyphs import glyphs_for
from xdpcap.cli.options import CONTEXT_SETTINGS
from xdpcap.cli.streams import emit

TITLES = {
    "name": "interface",
    "driver": "driver",
    "queues": "queues",
    "mtu": "MTU",
    "speed": "speed",
    "state": "state",
    "xdp": "XDP program",
    "alias": "alias",
}
# Wide enough for any table there is: what goes into a pipe is not cut.
WIDTH_OFF_TERMINAL = 500
# From the richest to the poorest; the first that fits is shown.
LAYOUTS = (
    tuple(TITLES),
    ("name", "driver", "queues", "mtu", "speed", "state", "xdp"),
    ("name", "driver", "queues", "mtu", "state", "xdp"),
    ("name", "driver", "queues", "xdp"),
    ("name", "queues"),
)


@click.command(
    "interfaces",
    context_settings=CONTEXT_SETTINGS,
    short_help="List the interfaces there are to record from.",
)
@click.option("--netns", metavar="NAME", help="Look into this network namespace.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def interfaces_command(netns: str | None, as_json: bool) -> None:
    """List the interfaces, their receive queues and the XDP programs attached to them."""
    from xdpcap.net.netns import call_in

    interfaces = call_in(netns, _look)
    if as_json:
        emit(json.dumps(interfaces, indent=2) + "\n")
        return
    glyphs = glyphs_for(sys.stdout.encoding)
    on_terminal = sys.stdout.isatty()
    # Rendered into memory first, so that one place meets a standard output that is full or closed.
    console = Console(
        file=io.StringIO(),
        force_terminal=on_terminal,
        width=None if on_terminal else WIDTH_OFF_TERMINAL,
    )
    rows = [_cells(interface) for interface in interfaces]
    layout, _ = pick_layout(LAYOUTS, widths_of(TITLES, rows), console.width)
    if not any(interface["alias"] for interface in interfaces):
        layout = [name for name in layout if name != "alias"]
    with console.capture() as captured:
        console.print(ruled_table(TITLES, layout, rows, {}, glyphs))
    emit(captured.get())


def _look() -> list[dict[str, Any]]:
    """Everything about every interface of the calling thread's namespace, ready for JSON."""
    from xdpcap.errors import XdpcapError
    from xdpcap.net.link import list_links
    from xdpcap.net.queues import rx_queue_count

    found = []
    for link in list_links():
        try:
            queue_count = rx_queue_count(link.name)
        except XdpcapError:
            continue  # deleted since the listing
        found.append(
            {
                "name": link.name,
                "driver": link.driver or link.kind,
                "queue_count": queue_count,
                "mtu": link.mtu,
                "speed_mbps": link.speed_mbps,
                "up": link.up,
                "carrier": link.carrier,
                "mac": link.mac,
                "xdp_mode": link.xdp_mode,
                "xdp_prog_id": link.xdp_prog_id,
                "alias": link.alias,
            }
        )
    return found


def _cells(interface: Mapping[str, Any]) -> dict[str, Text]:
    up = interface["up"] and interface["carrier"]
    state = "up" if up else "no carrier" if interface["up"] else "down"
    speed = interface["speed_mbps"]
    mode, prog_id = interface["xdp_mode"], interface["xdp_prog_id"]
    return {
        "name": Text(interface["name"], style="bold"),
        "driver": Text(interface["driver"]),
        "queues": Text(str(interface["queue_count"])),
        "mtu": Text(str(interface["mtu"])),
        "speed": Text(_speed(speed) if speed else ""),
        "state": Text(state, style="green" if up else "dim"),
        # An interface with a program is taken: say which one it is.
        "xdp": Text(f"{mode}, id {prog_id}" if mode else "", style="yellow"),
        "alias": Text(interface["alias"], style="dim"),
    }


def _speed(mbps: int) -> str:
    """As it is printed on the port: ``10G``, ``2.5G``, ``100M``."""
    return f"{mbps / 1000:g}G" if mbps >= 1000 else f"{mbps}M"
