"""Interfaces that are refused, and filters that are, on veth pairs of the tests' own."""

import os
import re
import shlex
import socket
import subprocess
import sys

import pytest
from pyroute2 import IPRoute
from veth_namespaces import add_veth, index_of, namespace, set_link, visiting

from xdpcap.net import netns, refusal
from xdpcap.packets.filter import compile_expression

NO_SSH: dict[str, str] = {}


@pytest.fixture
def here():
    """The test's thread in a namespace of its own; the namespace's name."""
    with visiting() as name:
        yield name


# --- without a filter


def address(name, text, prefix):
    with IPRoute() as ipr:
        ipr.addr("add", index=index_of(name), address=text, prefixlen=prefix, ifa_flags=0x02)


def route(**arguments):
    with IPRoute() as ipr:
        ipr.route("add", **arguments)


def test_an_interface_without_default_route_is_not_refused(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    address("va", "fd09::1", 64)
    assert refusal("va", NO_SSH) is None
    assert refusal("lo", NO_SSH) is None


def test_the_carrier_of_the_ipv4_default_route_is_refused_and_its_neighbour_is_not(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    route(dst="default", gateway="10.9.0.2")
    reason = refusal("va", NO_SSH)
    assert reason is not None and reason.startswith("va carries the IPv4 default route")
    assert "--force" in reason
    assert refusal("vb", NO_SSH) is None


def test_the_carrier_of_the_ipv6_default_route_is_refused(here):
    add_veth("va", "vb")
    address("va", "fd09::1", 64)
    route(family=10, dst="default", gateway="fd09::2")
    assert "va carries the IPv6 default route" in refusal("va", NO_SSH)
    assert refusal("vb", NO_SSH) is None


def test_default_routes_of_other_tables_and_of_several_hops_count(here):
    add_veth("va", "vb")
    add_veth("vc", "vd")
    add_veth("ve", "vf")
    for number, name in enumerate(("va", "vc", "ve")):
        address(name, f"10.9.{number}.1", 24)
    route(dst="default", gateway="10.9.0.2", table=77)
    hops = [{"gateway": "10.9.1.2", "oif": index_of("vc")}]
    hops.append({"gateway": "10.9.2.2", "oif": index_of("ve")})
    route(family=2, dst="default", multipath=hops)
    assert all(refusal(name, NO_SSH) for name in ("va", "vc", "ve"))
    assert not any(refusal(name, NO_SSH) for name in ("vb", "vd", "vf"))


def test_a_default_route_is_found_behind_thousands_of_others(here, tmp_path):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    batch = tmp_path / "routes"
    lines = (
        f"route add 172.{16 + i // 65536}.{i // 256 % 256}.{i % 256}/32 dev va table 50"
        for i in range(5000)
    )
    batch.write_text("\n".join(lines))
    subprocess.run(["ip", "-batch", str(batch)], check=True)
    assert refusal("va", NO_SSH) is None
    route(dst="default", gateway="10.9.0.2", table=77)
    assert "IPv4 default route" in refusal("va", NO_SSH)


def test_a_default_route_in_two_halves_counts(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        route(dst=half, gateway="10.9.0.2")
    assert "IPv4 default route" in refusal("va", NO_SSH)


def test_a_default_route_over_a_nexthop_object_counts(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    for command in (
        "ip nexthop add id 5 via 10.9.0.2 dev va",
        "ip route add default nhid 5",
    ):
        subprocess.run(command.split(), check=True)
    assert "IPv4 default route" in refusal("va", NO_SSH)


def test_an_unreachable_default_route_is_no_reason(here):
    add_veth("va", "vb")
    subprocess.run(["ip", "route", "add", "unreachable", "default"], check=True)
    subprocess.run(["ip", "-6", "route", "add", "unreachable", "default"], check=True)
    assert refusal("va", NO_SSH) is None
    assert refusal("lo", NO_SSH) is None


def test_a_port_of_the_bridge_that_carries_the_default_route_is_refused(here):
    add_veth("va", "vb")
    add_veth("vc", "vd")
    with IPRoute() as ipr:
        ipr.link("add", ifname="br", kind="bridge", state="up")
    set_link("va", master=index_of("br"))
    address("br", "10.9.0.1", 24)
    route(dst="default", gateway="10.9.0.2")
    assert "va is under br, which carries the IPv4 default route" in refusal("va", NO_SSH)
    assert refusal("br", NO_SSH) is not None
    assert refusal("vb", NO_SSH) is None and refusal("vc", NO_SSH) is None


def test_the_device_under_a_macvlan_that_carries_the_default_route_is_refused(here):
    add_veth("va", "vb")
    with IPRoute() as ipr:
        ipr.link("add", ifname="mv", kind="macvlan", link=index_of("va"), state="up")
    address("mv", "10.9.0.1", 24)
    route(dst="default", gateway="10.9.0.2")
    assert "va is under mv" in refusal("va", NO_SSH)
    assert refusal("vb", NO_SSH) is None


@pytest.mark.parametrize(
    "server", ["10.9.0.1", "::ffff:10.9.0.1", "fd09::1", "fe80::9%va"], ids=lambda text: text[:8]
)
def test_the_interface_with_the_ssh_sessions_address_is_refused(here, server):
    add_veth("va", "vb")
    add_veth("vc", "vd")
    address("va", "10.9.0.1", 24)
    address("va", "fd09::1", 64)
    address("va", "fe80::9", 64)
    environ = {"SSH_CONNECTION": f"192.168.77.1 50000 {server} 22"}
    assert "va has the address of this SSH session" in refusal("va", environ)
    assert refusal("vc", environ) is None


def test_the_way_to_the_ssh_client_is_refused_when_the_address_is_elsewhere(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    address("lo", "10.200.0.1", 32)
    set_link("lo", state="up")
    environ = {"SSH_CONNECTION": "10.9.0.77 50000 10.200.0.1 22"}
    assert "way to this SSH session's client (10.9.0.77)" in refusal("va", environ)
    assert refusal("vb", environ) is None


def test_the_ssh_session_is_found_behind_sudo(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    ask = "from xdpcap.net import refusal; print(refusal('va'))"
    shell = f'env -u SSH_CONNECTION {shlex.quote(sys.executable)} -c "{ask}"; true'
    environ = {**os.environ, "SSH_CONNECTION": "10.9.0.77 50000 10.9.0.1 22"}
    out = subprocess.run(
        ["sh", "-c", shell], env=environ, check=True, capture_output=True, text=True
    ).stdout
    assert re.match(r"va has the address of this SSH session \(10\.9\.0\.1\)", out)


# --- with one


def refusal_of(expression, environ=NO_SSH, name="va"):
    return refusal(name, environ, takes=compile_expression(expression).matches)


# Whether the filter takes packets of the session from 10.9.0.77, port 50000, to 10.9.0.1 or of
# the one between the same numbers of IPv6.
TAKEN = {
    "tcp": True,
    "port 22": True,
    "src port 22": True,
    "dst host {client}": True,
    "tcp port 50000 and host {client}": True,
    "less 80": True,
    "greater 1400": True,
    "tcp[13] & 8 != 0": True,
    "ether host 02:00:00:00:00:77": True,
    "not udp": True,
    "": True,
    "not tcp and not arp and not icmp6": False,
    "tcp port 443": False,
    "udp": False,
    "host 203.0.113.5": False,
    "tcp and not (host {client} and tcp port 50000)": False,
    "vlan": False,
}


@pytest.mark.parametrize("ends", [("10.9.0.77", "10.9.0.1"), ("fd09::77", "fd09::1")])
@pytest.mark.parametrize("expression", TAKEN)
def test_a_filter_is_refused_when_it_takes_packets_of_the_ssh_session(here, ends, expression):
    client, server = ends
    taken = TAKEN[expression]
    if ":" in client:  # libpcap's tcp[] is of IPv4
        expression = expression.replace("tcp[13]", "ip6[53]")
    add_veth("va", "vb")
    set_link("va", address="02:00:00:00:00:01")
    address("va", "10.9.0.1", 24)
    address("va", "fd09::1", 64)
    subprocess.run(f"ip neigh replace {client} lladdr 02:00:00:00:00:77 dev va".split(), check=True)
    environ = {"SSH_CONNECTION": f"{client} 50000 {server} 22"}
    reason = refusal_of(expression.format(client=client), environ)
    assert (reason is not None) == taken
    if taken:
        assert reason == (
            f"va: the filter takes packets of the SSH session from {client} from this host; add "
            f"`and not (host {client} and tcp port 50000)`, or --force"
        )
        spared = f"({expression.format(client=client) or 'ip or ip6'}) and not (host {client} "
        spared += "and tcp port 50000) and not arp and not icmp6"
        assert refusal_of(spared, environ) is None


def test_a_filter_that_takes_the_answers_on_the_way_to_the_client_is_refused(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    address("va", "fd09::1", 64)
    ours = {"SSH_CONNECTION": "10.9.0.77 50000 10.9.0.1 22"}
    reason = "va: the filter takes the answers from this host by which it finds {}, where its SSH "
    reason += "session goes; add `and not {}`, or --force"
    assert refusal_of("arp", ours) == reason.format("10.9.0.77", "arp")
    assert refusal_of("icmp6", ours) is None
    ours = {"SSH_CONNECTION": "fd09::77 50000 fd09::1 22"}
    assert refusal_of("icmp6", ours) == reason.format("fd09::77", "icmp6")
    assert refusal_of("icmp6[0] = 136", ours) == reason.format("fd09::77", "icmp6")
    assert refusal_of("arp", ours) is None


def test_a_filter_for_the_default_route_s_interface_needs_to_leave_it_its_gateway(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    route(dst="default", gateway="10.9.0.2")
    assert refusal_of("tcp port 443") is None
    reason = refusal_of("ip or arp")
    assert "by which it finds 10.9.0.2, where its IPv4 default route goes" in reason
    assert refusal_of("ip or arp", name="vb") is None


def test_a_connection_that_no_variable_tells_of_is_found_among_the_sockets(here):
    add_veth("va", "vb")
    address("va", "10.9.0.1", 24)
    with namespace() as there:
        set_link("vb", net_ns_fd=there)
        netns.call_in(there, address, "vb", "10.9.0.2", 24)
        netns.call_in(there, subprocess.run, ["ip", "link", "set", "vb", "up"])
        listener = socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True)

        def connected():
            return socket.create_connection(("10.9.0.1", 22), timeout=5)

        with listener, netns.call_in(there, connected) as client:
            port = client.getsockname()[1]
            reason = refusal_of("tcp")
            assert "the SSH session from 10.9.0.2 from this host" in reason
            assert f"`and not (host 10.9.0.2 and tcp port {port})`" in reason
            assert refusal_of("udp") is None
