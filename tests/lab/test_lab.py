"""The lab itself: what it makes, that it is silent, exact, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from xdpcap.bench.lab import Lab, in_netns, sweep
from xdpcap.errors import KernelError, UsageError
from xdpcap.net import netns

QUIET_S = 3


def links() -> set[str]:
    """The names of the links of the calling thread's namespace."""
    with IPRoute() as ipr:
        return {link.get("ifname") for link in ipr.get_links()}


def one_link(name: str):
    with IPRoute() as ipr:
        return ipr.link("get", ifname=name)[0]


def test_each_end_is_alone_in_its_namespace_and_the_host_sees_neither():
    before = links()
    with Lab() as lab:
        assert in_netns(lab.rx_ns, links) == {"lo", "rx0"}
        assert in_netns(lab.tx_ns, links) == {"lo", "tx0"}
        assert links() == before
    assert links() == before


def test_indices_addresses_mtus_and_queues_are_those_that_were_asked_for(make_lab):
    lab = make_lab(queues=4, mtu=9000, peer_mtu=3000)
    rx, tx = in_netns(lab.rx_ns, one_link, "rx0"), in_netns(lab.tx_ns, one_link, "tx0")
    assert (rx["index"], tx["index"]) == (lab.rx_ifindex, lab.tx_ifindex)
    assert (rx.get("address"), tx.get("address")) == (lab.rx_mac, lab.tx_mac)
    assert (rx.get("mtu"), tx.get("mtu")) == (9000, 3000)
    for link in (rx, tx):
        assert (link.get("num_rx_queues"), link.get("num_tx_queues")) == (4, 4)
        assert link.get("operstate") == "UP"


def test_both_namespaces_and_the_pair_are_gone_after_an_exception():
    with contextlib.suppress(ZeroDivisionError), Lab() as lab:
        raise ZeroDivisionError
    assert not {lab.rx_ns, lab.tx_ns} & set(netns.names())
    with pytest.raises(UsageError, match=lab.rx_ns):
        in_netns(lab.rx_ns, links)


def test_a_lab_that_can_not_be_made_leaves_no_namespace():
    before = netns.names()
    with pytest.raises(KernelError, match="100000 queues: EINVAL"), Lab(queues=100000):
        pass
    assert netns.names() == before


def test_numbers_that_can_not_work_are_refused_before_anything_is_made():
    with pytest.raises(UsageError, match="at least 1"):
        Lab(queues=0)
    with pytest.raises(UsageError, match="MTU of 67"):
        Lab(mtu=67)
    with pytest.raises(UsageError, match="MTU of 65536"):
        Lab(peer_mtu=65536)


@pytest.mark.parametrize("end", ["rx", "tx"])
def test_nothing_is_sent_on_a_lab_by_itself(lab, tmp_path, end):
    namespace = {"rx": lab.rx_ns, "tx": lab.tx_ns}[end]
    listening = in_netns(
        namespace,
        subprocess.Popen,
        ["tcpdump", "-i", f"{end}0", "-Unw", str(tmp_path / "seen.pcap")],
        stderr=subprocess.PIPE,
        text=True,
    )
    # Down and up again: that is when a host's stack likes to announce itself.
    for _ in listening.stderr:
        lab.set_link("tx0", up=False)
        lab.set_link("tx0", up=True)
        break
    with contextlib.suppress(subprocess.TimeoutExpired):
        listening.wait(QUIET_S)
    listening.terminate()
    said = listening.stderr.read()
    assert "0 packets received by filter" in said, said
    assert lab.statistics() == dict.fromkeys(lab.statistics(), 0)


def test_offloads_that_change_a_senders_bytes_are_off_unless_asked_for(make_lab):
    def on(lab: Lab) -> set[str]:
        shown = in_netns(
            lab.tx_ns, subprocess.run, ["ethtool", "-k", "tx0"], capture_output=True, text=True
        ).stdout
        return {line.split(":")[0].strip() for line in shown.splitlines() if ": on" in line}

    offloads = {
        "tx-checksumming",
        "tcp-segmentation-offload",
        "generic-segmentation-offload",
        "tx-vlan-offload",
        "rx-vlan-offload",
    }
    assert not on(make_lab()) & offloads
    assert on(make_lab(offloads=True)) >= offloads


def test_a_function_runs_inside_the_namespace_and_the_caller_stays_outside(lab):
    here = os.readlink("/proc/thread-self/ns/net")
    inside = in_netns(lab.rx_ns, os.readlink, "/proc/thread-self/ns/net")
    assert inside != here
    assert os.readlink("/proc/thread-self/ns/net") == here
    child = in_netns(
        lab.rx_ns, subprocess.run, ["readlink", "/proc/self/ns/net"], capture_output=True, text=True
    )
    assert child.stdout.strip() == inside


def test_what_a_function_raises_inside_reaches_the_caller_and_its_thread_ends(lab):
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        in_netns(lab.rx_ns, lambda: 1 // 0)
    assert threading.active_count() == threads


def test_sweeping_removes_the_lab_of_a_killed_process_and_no_living_one(lab):
    code = (
        "import os, signal; from xdpcap.bench.lab import Lab; lab = Lab().__enter__();"
        "print(lab.rx_ns, lab.tx_ns, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True, check=False
    )
    left = set(killed.stdout.split())
    assert left <= set(netns.names()) and len(left) == 2
    assert set(sweep()) >= left
    assert not left & set(netns.names())
    assert {lab.rx_ns, lab.tx_ns} <= set(netns.names())


def test_fifty_labs_leave_no_descriptor_behind():
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Lab():
        pass
    before = descriptors()
    for _ in range(50):
        with Lab():
            pass
    assert descriptors() == before
