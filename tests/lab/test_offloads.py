"""Offloads that spoil a capture, on veth pairs of the tests' own."""

import contextlib
import logging
import subprocess
import sys

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from veth_namespaces import (
    add_veth,
    delete_link,
    namespace,
    set_link,
    visiting,
    xdp_pass,
)

from xdpcap.net import OffloadFixes, get_link, netns, spoilers
from xdpcap.net.offloads import features, veth_native_mtu


@pytest.fixture
def here():
    """The test's thread in a namespace of its own; the namespace's name."""
    with visiting() as name:
        yield name


def found_on(name, attach_mode="native", frame_size=2048, multi_buffer=True, own_netns=None):
    return spoilers(get_link(name), attach_mode, frame_size, multi_buffer, own_netns)


def pairs(found):
    return [(spoiler.feature, spoiler.interface) for spoiler in found]


# --- offloads


def test_a_fresh_veth_is_spoiled_by_its_peers_offloads(here):
    add_veth("va", "vb")
    found = found_on("va")
    assert pairs(found) == [
        ("tx-checksumming", "vb"),
        ("tx-vlan-offload", "vb"),
        ("tx-vlan-stag-hw-insert", "vb"),
    ]
    assert all(spoiler.fixable and spoiler.netns is None for spoiler in found)
    assert found[0].command == "ethtool -K vb tx-checksumming off"


@pytest.mark.parametrize("attach_mode", ["native", "generic"])
def test_the_commands_told_mend_what_they_are_told_for(here, attach_mode):
    add_veth("va", "vb")
    for spoiler in found_on("va", attach_mode):
        subprocess.run(spoiler.command.split(), check=True)
    assert found_on("va", attach_mode) == []


def test_segmentation_of_the_peer_spoils_in_generic_mode_only(here):
    add_veth("va", "vb")
    extra = set(pairs(found_on("va", "generic"))) - set(pairs(found_on("va", "native")))
    assert extra == {("tcp-segmentation-offload", "vb"), ("tx-udp-segmentation", "vb")}


def test_a_native_program_takes_segmentation_from_the_peer_and_a_generic_one_does_not(here):
    add_veth("va", "vb")
    with xdp_pass("va", "native"):
        assert not features("vb")["tx-tcp-segmentation"]
    assert features("vb")["tx-tcp-segmentation"]
    with xdp_pass("va", "generic"):
        assert features("vb")["tx-tcp-segmentation"]


@pytest.mark.parametrize("attach_mode", ["native", "generic"])
def test_fixes_mend_everything_and_put_back_everything(here, attach_mode, caplog):
    add_veth("va", "vb")
    before = features("vb")
    fixes = OffloadFixes(found_on("va", attach_mode))
    with caplog.at_level(logging.INFO, "xdpcap.net.offloads"):
        assert fixes.apply() == []
        assert found_on("va", attach_mode) == []
        assert features("vb") != before
        fixes.restore()
        assert features("vb") == before
        subprocess.run(["ethtool", "-K", "vb", "tx-checksumming", "off"], check=True)
        fixes.restore()
    assert not features("vb")["tx-checksum-ip-generic"]
    assert "turned off tx-checksumming of vb" in caplog.text
    assert "`ethtool -K vb tx-checksumming on`" in caplog.text
    assert "restored tx-checksumming of vb" in caplog.text


def test_fixes_around_an_attached_program_leave_the_pair_as_it_was(here):
    add_veth("va", "vb")
    before = features("vb")
    fixes = OffloadFixes(found_on("va", "auto"))
    fixes.apply()
    with xdp_pass("va", "native"):
        assert found_on("va", "native") == []
    fixes.restore()
    assert features("vb") == before


def test_a_feature_that_was_off_is_not_turned_on_by_restoring(here):
    add_veth("va", "vb")
    subprocess.run(["ethtool", "-K", "vb", "tx-checksum-sctp", "off"], check=True)
    before = features("vb")
    fixes = OffloadFixes(found_on("va"))
    fixes.apply()
    fixes.restore()
    assert features("vb") == before


def test_a_peer_in_another_namespace_is_mended_there_and_its_command_goes_there(here):
    with namespace() as there:
        add_veth("va", "vb", peer_netns=there)
        before = netns.call_in(there, features, "vb")
        found = found_on("va")
        assert {spoiler.netns for spoiler in found} == {there}
        assert found[0].command == f"ip netns exec {there} ethtool -K vb tx-checksumming off"
        fixes = OffloadFixes(found)
        assert fixes.apply() == []
        assert found_on("va") == []
        fixes.restore()
        assert netns.call_in(there, features, "vb") == before
        for spoiler in found:
            subprocess.run(spoiler.command.split(), check=True)
        assert found_on("va") == []


def test_commands_name_the_callers_own_namespace_when_it_is_told(here):
    add_veth("va", "vb")
    found = found_on("va", own_netns=here)
    assert found[0].command == f"ip netns exec {here} ethtool -K vb tx-checksumming off"
    assert OffloadFixes(found, own_netns=here).apply() == []
    assert found_on("va") == []


def test_a_peer_in_a_namespace_without_a_name_is_told_of_in_general_words(here):
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = ["unshare", "--net", sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        holder.stdout.readline()
        add_veth("va", "vb", up=False)
        set_link("vb", net_ns_pid=holder.pid)
        (found,) = found_on("va")
        assert OffloadFixes([found]).apply() == [found]
        holder.stdin.close()
    assert found.interface == "va's peer" and not found.fixable
    assert "can't be looked into" in found.why


def test_restoring_an_interface_that_is_gone_warns_and_does_not_raise(here, caplog):
    add_veth("va", "vb")
    fixes = OffloadFixes(found_on("va"))
    fixes.apply()
    delete_link("va")
    fixes.restore()
    assert "vb is gone" in caplog.text


def test_offloads_of_a_device_that_is_no_veth_are_its_own(here):
    # An ifb takes the place of hardware here: it has features of its own and no peer.
    with IPRoute() as ipr:
        ipr.link("add", ifname="ifb", kind="ifb")
    assert found_on("ifb", frame_size=2048, multi_buffer=False) == []


# --- MTU


def native_attach_works(name):
    with contextlib.suppress(NetlinkError), xdp_pass(name, "native"):
        return True
    return False


def test_the_native_mtu_limit_is_the_kernels_own(here):
    add_veth("va", "vb")
    for mtu, attaches in ((veth_native_mtu(), True), (veth_native_mtu() + 1, False)):
        set_link("va", mtu=mtu)
        set_link("vb", mtu=mtu)
        found = [s for s in found_on("va", "native", 4096, False) if s.feature == "mtu"]
        assert native_attach_works("va") == attaches == (found == [])
    assert found[0].interface == "vb" and not found[0].fixable
    assert found_on("va", "native", 4096, True)[0].feature != "mtu"
    subprocess.run(found[0].command.split(), check=True)
    assert native_attach_works("va")


def test_an_mtu_above_a_single_frame_names_the_frame_size_or_the_mtu_that_fits(here):
    add_veth("va", "vb")
    set_link("va", mtu=2000)
    found = found_on("va", "native", 2048, False)
    assert (found[0].feature, found[0].interface) == ("mtu", "va")
    assert found[0].command == "--frame-size 4096"
    assert found_on("va", "native", 4096, False)[0].feature != "mtu"
    set_link("va", mtu=9000)
    found = found_on("va", "native", 2048, False)
    assert found[0].command == f"ip link set dev va mtu {2048 - 256 - 14 - 8}"
    subprocess.run(found[0].command.split(), check=True)
    assert found_on("va", "native", 2048, False)[0].feature != "mtu"
