"""Links, promiscuous mode, link events, queues and namespaces, on veth pairs of the tests' own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from kernel_requirements import VETH_CHANNELS
from pyroute2 import IPRoute
from timeouts import PATIENCE
from veth_namespaces import (
    add_veth,
    delete_link,
    index_of,
    namespace,
    set_link,
    visiting,
    xdp_pass,
)

from xdpcap.errors import UsageError
from xdpcap.net import (
    LinkWatch,
    Promiscuous,
    channels,
    choose_queues,
    get_link,
    list_links,
    netns,
    peer_of,
    rx_queue_count,
    wait_for_carrier,
)


@pytest.fixture
def here():
    """The test's thread in a namespace of its own; the namespace's name."""
    with visiting() as name:
        yield name


def events_of(watch, name, timeout_s=2.0):
    """The watch's events about one link, once there are any."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    found = []
    while not found and time.monotonic() < deadline:
        found += [event for event in watch.read() if event.name == name]
        time.sleep(0.01)
    time.sleep(0.05)
    return found + [event for event in watch.read() if event.name == name]


def let_settle(watch, *names, timeout_s=5.0):
    """Read off what the kernel still has to say of links just made: it tells their operational
    state from a work queue of its own (net/core/link_watch.c), at any time after they are up."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    with IPRoute() as ipr:
        while {ipr.get_links(ifname=name)[0].get("operstate") for name in names} != {
            "UP"
        } and time.monotonic() < deadline:
            time.sleep(0.01)
    while watch.read() and time.monotonic() < deadline:
        time.sleep(0.1)


# --- links


def test_a_veth_is_described_as_the_kernel_knows_it(here):
    add_veth("va", "vb")
    set_link("va", address="02:00:00:00:00:0a", mtu=1400, ifalias="uplink of the lab")
    link = get_link("va")
    assert (link.name, link.index) == ("va", index_of("va"))
    assert (link.mac, link.mtu, link.alias) == ("02:00:00:00:00:0a", 1400, "uplink of the lab")
    assert (link.kind, link.driver, link.speed_mbps) == ("veth", "veth", 10000)
    assert (link.up, link.carrier, link.promiscuity) == (True, True, 0)
    assert (link.xdp_prog_id, link.xdp_mode) == (None, None)


def test_a_link_that_is_up_has_no_carrier_while_its_peer_is_down(here):
    add_veth("va", "vb")
    set_link("vb", state="down")
    assert (get_link("va").up, get_link("va").carrier) == (True, False)
    assert (get_link("vb").up, get_link("vb").carrier) == (False, False)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_an_attached_program_is_seen_with_its_mode(here, mode):
    add_veth("va", "vb")
    with xdp_pass("va", mode):
        link = get_link("va")
        assert link.xdp_mode == mode
        assert link.xdp_prog_id is not None and link.xdp_prog_id > 0
    assert get_link("va").xdp_mode is None


def test_a_link_is_found_by_its_alternative_name(here):
    add_veth("va", "vb")
    with IPRoute() as ipr:
        ipr.link("property_add", index=index_of("va"), altname="the-port-on-the-left")
    assert get_link("the-port-on-the-left").name == "va"


def test_links_are_listed_by_index(here):
    add_veth("va", "vb")
    links = list_links()
    assert sorted(link.name for link in links) == ["lo", "va", "vb"]
    assert [link.index for link in links] == sorted(link.index for link in links)


def test_an_unknown_link_is_an_error_that_names_the_ones_there_are(here):
    add_veth("uplink0", "vb")
    with pytest.raises(UsageError) as caught:
        get_link("uplnik0")
    assert "did you mean uplink0?" in str(caught.value)
    assert "lo, vb, uplink0" in str(caught.value)


def test_the_peer_in_the_same_namespace_has_no_namespace_id(here):
    add_veth("va", "vb")
    assert peer_of("va") == (index_of("vb"), None)


def test_the_peer_in_a_named_namespace_is_found_by_name(here):
    with namespace() as there:
        add_veth("va", "vb", peer_netns=there)
        index, netns_id = peer_of("va")
        assert index == netns.call_in(there, index_of, "vb")
        assert netns_id is not None and netns.name_of_id(netns_id) == there


def test_a_link_that_is_no_veth_has_no_peer(here):
    with pytest.raises(UsageError, match="no peer"):
        peer_of("lo")


# --- promiscuous mode


def test_promiscuous_mode_is_counted_and_left_at_close(here):
    add_veth("va", "vb")
    with Promiscuous("va") as first:
        assert get_link("va").promiscuity == 1
        second = Promiscuous("va")
        assert get_link("va").promiscuity == 2
        first.close()
        assert get_link("va").promiscuity == 1
        second.close()
        second.close()
    assert get_link("va").promiscuity == 0


def test_promiscuous_mode_ends_with_a_killed_process(here):
    add_veth("va", "vb")
    code = (
        "import time; from xdpcap.net import Promiscuous; p = Promiscuous('va'); "
        "print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        assert get_link("va").promiscuity == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert get_link("va").promiscuity == 0


def test_the_promiscuous_socket_receives_nothing(here):
    add_veth("va", "vb")
    with Promiscuous("va") as promiscuous:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("vb", 0))
            for _ in range(20):
                sender.send(b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(50))
        promiscuous._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            promiscuous._socket.recv(100)


# --- watching


def test_a_watch_tells_of_down_up_and_carrier(here):
    add_veth("va", "vb")
    with LinkWatch() as watch:
        let_settle(watch, "va", "vb")
        assert watch.read() == []
        set_link("vb", state="down")
        last = events_of(watch, "va")[-1]
        assert (last.up, last.carrier, last.deleted) == (True, False, False)
        set_link("vb", state="up")
        assert events_of(watch, "va")[-1].carrier
        set_link("va", state="down")
        assert not events_of(watch, "va")[-1].up


def test_a_watch_tells_of_deletion_and_of_the_new_link_of_that_name(here):
    add_veth("va", "vb")
    old = index_of("va")
    with LinkWatch() as watch:
        let_settle(watch, "va", "vb")
        delete_link("va")
        last = events_of(watch, "va")[-1]
        assert (last.index, last.deleted, last.up) == (old, True, False)
        add_veth("va", "vb")
        last = events_of(watch, "va")[-1]
        assert last.index != old and not last.deleted


def test_a_link_moved_to_another_namespace_counts_as_deleted(here):
    add_veth("va", "vb")
    with namespace() as there, LinkWatch() as watch:
        let_settle(watch, "va", "vb")
        set_link("va", net_ns_fd=there)
        assert events_of(watch, "va")[-1].deleted


def test_a_port_that_leaves_its_bridge_is_not_taken_for_deleted(here):
    add_veth("va", "vb")
    with IPRoute() as ipr:
        ipr.link("add", ifname="br", kind="bridge")
    set_link("va", master=index_of("br"))
    with LinkWatch() as watch:
        set_link("va", master=0)
        told = events_of(watch, "va")
        assert told and not any(event.deleted for event in told)


def test_a_watch_that_was_overrun_tells_the_state_as_it_is(here):
    add_veth("va", "vb")
    add_veth("vc", "vd")
    with LinkWatch() as watch:
        let_settle(watch, "va", "vb", "vc", "vd")
        watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for _ in range(50):
            set_link("vb", mtu=1400)
            set_link("vb", mtu=1500)
        delete_link("vc")
        set_link("va", state="down")
        told = {event.name: event for event in watch.read()}
        assert told["vc"].deleted
        assert not told["va"].up
        assert watch.read() == []


def test_a_link_that_appears_later_is_waited_for(here):
    def later():
        netns.enter(here)
        time.sleep(0.3)
        add_veth("va", "vb")

    maker = threading.Thread(target=later)
    maker.start()
    try:
        assert wait_for_carrier("va", 5)
    finally:
        maker.join()


def test_waiting_for_carrier_ends_at_the_timeout_or_when_told_to_stop(here):
    add_veth("va", "vb")
    set_link("vb", state="down")
    began = time.monotonic()
    assert not wait_for_carrier("va", 0.3)
    assert 0.3 <= time.monotonic() - began < 2
    stop_at = time.monotonic() + 0.3
    assert not wait_for_carrier("va", None, stop=lambda: time.monotonic() > stop_at)
    assert time.monotonic() - stop_at < 2


# --- queues


@VETH_CHANNELS
def test_all_the_queues_of_a_veth_are_counted_and_chosen(here):
    add_veth("va", "vb", queues=4)
    found = channels("va")
    assert (found.rx_count, found.tx_count, found.combined_count, found.max_rx) == (4, 4, 0, 4)
    assert choose_queues("va", None) == (0, 1, 2, 3)
    assert choose_queues("va", (3, 1, 3)) == (1, 3)


@VETH_CHANNELS
def test_the_count_follows_the_channels_in_use_and_the_error_tells_how_to_get_more(here):
    add_veth("va", "vb", queues=4)
    subprocess.run(["ethtool", "-L", "va", "rx", "2"], check=True)
    assert rx_queue_count("va") == 2
    with pytest.raises(UsageError) as caught:
        choose_queues("va", (0, 3))
    assert "no RX queue 3: it has 2 RX queues (0-1)" in str(caught.value)
    command = str(caught.value).split("`")[1]
    subprocess.run(command.split(), check=True)
    assert choose_queues("va", (0, 3)) == (0, 3)


@VETH_CHANNELS
def test_a_queue_above_what_the_device_can_have_is_refused_with_the_limit(here):
    add_veth("va", "vb", queues=2)
    with pytest.raises(UsageError, match=r"queues 7, 9: .* 2 at most"):
        choose_queues("va", (9, 7))


def test_a_driver_without_channels_counts_the_queues_the_kernel_set_aside(here):
    with IPRoute() as ipr:
        ipr.link("add", ifname="br", kind="bridge", num_rx_queues=3, num_tx_queues=3)
    assert rx_queue_count("br") == 3
    with pytest.raises(UsageError, match="can't change that"):
        choose_queues("br", (3,))


# --- namespaces


def test_entering_moves_the_thread_and_those_it_starts_and_no_other():
    home = os.stat("/proc/thread-self/ns/net").st_ino
    seen = {}

    def note(key):
        seen[key] = os.stat("/proc/thread-self/ns/net").st_ino

    def moves(name):
        netns.enter(name)
        note("moved")
        child = threading.Thread(target=note, args=("child",))
        child.start()
        child.join()

    with namespace() as name:
        target = os.stat(f"/run/netns/{name}").st_ino
        thread = threading.Thread(target=moves, args=(name,))
        thread.start()
        thread.join()
    assert seen == {"moved": target, "child": target}
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_a_question_asked_elsewhere_leaves_the_caller_where_it_is(here):
    home = os.stat("/proc/thread-self/ns/net").st_ino
    with namespace() as there:
        add_veth("va", "only-there", peer_netns=there)
        assert netns.call_in(there, get_link, "only-there").name == "only-there"
        with pytest.raises(UsageError, match="no interface 'va'"):
            netns.call_in(there, get_link, "va")
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_an_unknown_namespace_is_an_error_that_names_the_ones_there_are():
    with namespace() as name:
        with pytest.raises(UsageError) as caught:
            netns.enter(name + "x")
        assert f"did you mean {name}?" in str(caught.value)


def test_a_file_that_is_no_namespace_is_refused(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(UsageError, match="no network namespace"):
        netns.enter(str(plain))
    with pytest.raises(UsageError, match="no network namespace"):
        netns.enter(str(tmp_path))
