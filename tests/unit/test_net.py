"""The network package where it needs no privilege: messages, arithmetic, the reading of answers."""

import ipaddress
import socket

import pytest
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from xdpcap.errors import UsageError
from xdpcap.net import (
    Link,
    LinkWatch,
    OffloadFixes,
    choose_queues,
    ethtool,
    get_link,
    management,
    management_frames,
    netns,
    offloads,
    queues,
    rx_queue_count,
    spoilers,
    ssh_sessions,
)
from xdpcap.net.ethtool import Feature
from xdpcap.packets.filter import compile_expression


def a_link(**changes):
    values = {
        "name": "eth7",
        "index": 7,
        "mac": "02:00:00:00:00:07",
        "mtu": 1500,
        "up": True,
        "carrier": True,
        "kind": "",
        "driver": "ixgbe",
        "speed_mbps": 10000,
        "alias": "",
        "promiscuity": 0,
        "xdp_prog_id": None,
        "xdp_mode": None,
    }
    return Link(**{**values, **changes})


def message(
    index, name, *, kind=None, vlan=None, message_type=RTM_NEWLINK, family=0, flags=0, **attributes
):
    """A link message as the kernel would send it: encoded, and decoded again."""
    built = ifinfmsg()
    built["header"]["type"] = message_type
    built["family"] = family
    built["index"] = index
    built["flags"] = flags
    built["attrs"] = [("IFLA_IFNAME", name)] if name else []
    built["attrs"] += [(f"IFLA_{key}", value) for key, value in attributes.items()]
    if kind:
        info = [("IFLA_INFO_KIND", kind)]
        if vlan:
            info.append(("IFLA_INFO_DATA", {"attrs": [("IFLA_VLAN_ID", vlan)]}))
        built["attrs"].append(("IFLA_LINKINFO", {"attrs": info}))
    built.encode()
    return built


def decoded(*arguments, **changes):
    copy = ifinfmsg(bytes(message(*arguments, **changes).data))
    copy.decode()
    return copy


# --- links


def test_the_loopback_is_there_and_is_itself():
    link = get_link("lo")
    assert (link.name, link.index, link.mac) == ("lo", 1, "00:00:00:00:00:00")
    assert (link.driver, link.speed_mbps, link.xdp_mode) == ("", None, None)


@pytest.mark.parametrize("name", ["", "x", "x" * 16, "a" * 300, "../lo", "é" * 9])
def test_a_name_that_can_not_be_an_interface_is_unknown_like_any_other(name):
    with pytest.raises(UsageError, match="no interface"):
        get_link(name)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UsageError, match="did you mean lo"):
        get_link("lo0")


# --- link events


@pytest.fixture
def watch():
    with LinkWatch() as made:
        yield made


def test_up_and_carrier_are_read_from_the_flags(watch):
    data = b"".join(
        bytes(message(5, "va", flags=flags).data) for flags in (0x1002, 0x1003, 0x11043)
    )
    assert [(e.up, e.carrier) for e in watch._parse(data)] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_a_deleted_link_is_neither_up_nor_has_carrier(watch):
    data = bytes(message(5, "va", message_type=RTM_DELLINK, flags=0x11043).data)
    (event,) = watch._parse(data)
    assert (event.index, event.name, event.deleted) == (5, "va", True)
    assert not event.up and not event.carrier


def test_messages_that_do_not_tell_of_the_link_itself_are_left_out(watch):
    bridge = message(5, "va", message_type=RTM_DELLINK, family=socket.AF_BRIDGE)
    wireless = message(5, None)
    assert watch._parse(bytes(bridge.data) + bytes(wireless.data)) == []


def test_a_closed_watch_has_no_descriptor_and_closes_again():
    made = LinkWatch()
    made.close()
    made.close()
    assert made.fileno() == -1


# --- queues


@pytest.fixture
def channels_are(monkeypatch):
    def be(allocated=None, **counts):
        answer = {**dict.fromkeys(ethtool.CHANNEL_COUNTS, 0), **counts} if counts else None
        monkeypatch.setattr(ethtool, "channel_counts", lambda _: answer)
        monkeypatch.setattr(queues, "rx_queues_allocated", lambda _: allocated)

    return be


def test_combined_and_rx_channels_both_receive(channels_are):
    channels_are(combined_count=6, rx_count=2, max_combined=8, other_count=1, tx_count=3)
    assert rx_queue_count("lo") == 8


def test_without_channels_the_allocated_queues_count_and_without_those_one(channels_are):
    channels_are(allocated=3)
    assert rx_queue_count("lo") == 3
    channels_are()
    assert rx_queue_count("lo") == 1


def test_a_missing_queue_is_told_with_the_kind_of_channel_the_driver_has(channels_are):
    channels_are(combined_count=4, max_combined=16)
    with pytest.raises(UsageError) as caught:
        choose_queues("lo", (0, 7))
    assert str(caught.value) == (
        "lo has no RX queue 7: it has 4 RX queues (0-3); `ethtool -L lo combined 8` makes more"
    )


def test_no_queue_at_all_is_no_choice(channels_are):
    channels_are(combined_count=1)
    with pytest.raises(UsageError, match=r"it has 1 RX queue \(0\)"):
        choose_queues("lo", ())


# --- offloads


@pytest.fixture
def device(monkeypatch):
    """An interface's features in memory, changed by requests the way a driver does it."""
    state: dict[str, Feature] = {}

    def change(_, wanted):
        for key, on in wanted.items():
            old = state[key]
            state[key] = Feature(on if old.changeable else old.active, on, old.changeable)

    monkeypatch.setattr(ethtool, "features", lambda _: dict(state))
    monkeypatch.setattr(ethtool, "set_features", change)
    return state


ON = Feature(active=True, requested=True, changeable=True)
FIXED_ON = Feature(active=True, requested=False, changeable=False)
OFF = Feature(active=False, requested=False, changeable=True)


def test_hardware_is_spoiled_by_merging_and_by_vlan_stripping(device):
    device |= {"rx-lro": ON, "rx-gro-hw": ON, "rx-vlan-hw-parse": ON, "rx-gro": ON, "rx-hash": ON}
    device |= {"tx-checksum-ip-generic": ON, "rx-vlan-stag-hw-parse": OFF}
    found = spoilers(a_link(), "native", 2048, False)
    assert [spoiler.command for spoiler in found] == [
        "ethtool -K eth7 large-receive-offload off",
        "ethtool -K eth7 rx-gro-hw off",
        "ethtool -K eth7 rx-vlan-offload off",
    ]
    assert all(spoiler.fixable for spoiler in found)


def test_fixes_turn_the_hardware_features_off_and_on_again(device):
    device |= {"rx-lro": ON, "rx-gro-hw": OFF, "rx-vlan-hw-parse": ON}
    before = dict(device)
    fixes = OffloadFixes(spoilers(a_link(), "native", 2048, False))
    assert fixes.apply() == []
    assert not any(feature.active for feature in device.values())
    fixes.restore()
    assert device == before


def test_a_fixed_feature_is_told_of_and_left_to_the_reader(device):
    device |= {"rx-vlan-hw-parse": FIXED_ON}
    found = spoilers(a_link(), "native", 2048, False)
    assert [spoiler.fixable for spoiler in found] == [False]
    assert OffloadFixes(found).apply() == found


def test_a_driver_that_keeps_a_feature_on_is_a_warning_and_no_fix(device, monkeypatch, caplog):
    device |= {"rx-gro-hw": ON}
    monkeypatch.setattr(ethtool, "set_features", lambda *_: None)
    found = spoilers(a_link(), "native", 2048, False)
    assert OffloadFixes(found).apply() == found
    assert "could not turn off rx-gro-hw of eth7: the driver keeps rx-gro-hw on" in caplog.text


def test_an_ordinary_mtu_fits_a_frame_of_2048_and_1771_does_not(device):
    assert spoilers(a_link(mtu=1500), "native", 2048, False) == []
    assert spoilers(a_link(mtu=2048 - 256 - 22), "native", 2048, False) == []
    (found,) = spoilers(a_link(mtu=2048 - 256 - 21), "native", 2048, False)
    assert (found.feature, found.command, found.fixable) == ("mtu", "--frame-size 4096", False)
    assert spoilers(a_link(mtu=9000), "native", 2048, True) == []


# --- what lies above what


def above(index, *messages):
    return ssh_sessions.everything_above(index, {entry["index"]: entry for entry in messages})


def test_everything_above_a_bonds_member_is_found_through_vlan_and_bridge():
    messages = (
        decoded(2, "eth0", MASTER=4),
        decoded(3, "eth1", MASTER=4),
        decoded(4, "bond0", kind="bond"),
        decoded(5, "bond0.7", kind="vlan", LINK=4, MASTER=6),
        decoded(6, "br0", kind="bridge"),
        decoded(7, "eth2"),
    )
    assert above(2, *messages) == [2, 4, 5, 6]
    assert above(5, *messages) == [5, 6]
    assert above(7, *messages) == [7]


def test_a_veths_peer_and_a_link_into_another_namespace_are_not_above():
    messages = (
        decoded(2, "eth0"),
        decoded(3, "va", kind="veth", LINK=2),
        decoded(4, "mv", kind="macvlan", LINK=2, LINK_NETNSID=0),
        decoded(5, "mw", kind="macvlan", LINK=2),
    )
    assert above(2, *messages) == [2, 5]


def test_links_that_point_at_each_other_end_the_walk():
    messages = (decoded(2, "a", kind="vlan", LINK=3), decoded(3, "b", kind="vlan", LINK=2))
    assert above(2, *messages) == [2, 3]


class NoNeighbours:
    """In place of an IPRoute: the kernel knows nobody."""

    def get_neighbours(self, **_):
        return ()


def test_a_session_over_a_vlan_device_is_looked_at_with_its_tag_and_without():
    messages = {
        2: decoded(2, "eth0"),
        5: decoded(5, "eth0.7", kind="vlan", vlan=7, LINK=2),
    }
    frames = management_frames.Frames(NoNeighbours(), messages, [2, 5])
    client, server = map(ipaddress.ip_address, ("10.9.0.77", "10.9.0.1"))
    session = ssh_sessions.SshSession(client, 50000, server, 22)

    def taken(expression):
        made = list(frames.of_session(session, ssh_sessions.Way(5, client, server)))
        made += frames.of_resolution(ssh_sessions.Way(5, client, server), server)
        return sum(map(compile_expression(expression).matches, made))

    assert taken("tcp") == taken("vlan 7 and tcp") == 6
    assert taken("vlan 7 and src port 22") == taken("vlan 7 and dst port 22") == 3
    assert taken("arp") == taken("vlan 7 and arp") == 2
    assert taken("vlan 8") == 0


@pytest.mark.parametrize("text", ["", "10.0.0.1 1", "a b c d", "10.0.0.1 1 nowhere 22"])
def test_a_mangled_ssh_connection_is_no_reason(text):
    assert management.refusal("lo", {"SSH_CONNECTION": text}) is None


# --- namespaces


def test_commands_are_told_for_the_namespace_they_belong_in():
    assert netns.command_in(None, "ip link") == "ip link"
    assert netns.command_in("blue", "ip link") == "ip netns exec blue ip link"
    assert netns.command_in("/proc/1/ns/net", "ip link") == "nsenter --net=/proc/1/ns/net ip link"


def test_an_unknown_namespace_is_told_with_the_ones_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(netns, "RUN_NETNS", tmp_path)
    with pytest.raises(UsageError, match=r"no network namespace 'red' \(there are: none\)"):
        netns.enter("red")
    for name in ("blue", "green"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"did you mean green\? \(there are: blue, green\)"):
        netns.enter("grene")


@pytest.mark.parametrize("name", ["", ".", "..", "nul\0byte", "/nowhere/at/all", "x" * 300])
def test_a_name_that_can_be_no_namespace_is_a_usage_error(name):
    with pytest.raises(UsageError, match="no network namespace"):
        netns.enter(name)


def test_features_are_read_by_the_kernels_names():
    found = offloads.features("lo")
    assert {"rx-gro", "rx-lro", "rx-vlan-hw-parse", "tx-checksum-ip-generic"} <= set(found)
    assert found["tx-tcp-segmentation"] is True
