"""Umem and Xsk as a library: what is sent is what arrives, and nothing stays behind."""

from __future__ import annotations

import contextlib
import errno
import itertools
import time
from collections.abc import Iterator

import pytest
from kernel_objects import descriptors, held_ids, still_there
from kernel_requirements import MULTI_BUFFER
from pyroute2 import IPRoute
from receiver_namespace import in_receiver
from timeouts import PATIENCE

from xdpcap.bench.lab.frames import blasted_frame, numbered_frame
from xdpcap.bench.lab.traffic import blast, send_frames
from xdpcap.errors import KernelError, UsageError
from xdpcap.host import kernel
from xdpcap.programs.builds import variants
from xdpcap.programs.program import Program, attached_program, program_name
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

UMEM_BYTES = 8 << 20
RING = 4096
XDP_FLAGS_DRV_MODE = 4


def load(queues: int = 1) -> Program:
    """The build that a recording on this kernel has."""
    return Program(next(variants()).path, queues)


@contextlib.contextmanager
def receiver(
    lab, mode: str = "native", queues: int = 1, frame_size: int = 2048
) -> Iterator[tuple[Program, list[Xsk]]]:
    """A program on rx0 and a socket with a filled fill ring on each queue."""
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(load(queues))
        program.attach(lab.rx_ifindex, mode)
        sockets = []
        for queue in range(queues):
            umem = stack.enter_context(Umem(UMEM_BYTES, frame_size=frame_size, fill_size=RING))
            xsk = stack.enter_context(
                Xsk(umem, "rx0", queue, rx_size=RING, multi_buffer=kernel.has_multi_buffer())
            )
            umem.populate_fill()
            program.bind_queue(queue, xsk.fd)
            sockets.append(xsk)
        yield program, sockets


def drain(xsk: Xsk, quiet_ms: int = 50) -> list[bytes]:
    """Everything that arrives until nothing has come for a while."""
    packets: list[bytes] = []
    while more := xsk.receive(RING, quiet_ms):
        packets += more
    return packets


# -- content and order ------------------------------------------------------------------


@pytest.mark.parametrize("frame_size", [2048, 4096])
@pytest.mark.parametrize("mode", ["native", "generic"])
@in_receiver
def test_every_length_from_60_to_1514_arrives_byte_for_byte_in_order(lab, mode, frame_size):
    sent = [numbered_frame(size, size) for size in range(60, 1515)]
    with receiver(lab, mode, frame_size=frame_size) as (_, (xsk,)):
        send_frames(lab, sent)
        assert drain(xsk) == sent


@MULTI_BUFFER
@pytest.mark.parametrize("frame_size", [2048, 4096])
@pytest.mark.parametrize("mode", ["native", "generic"])
def test_packets_of_several_frames_arrive_whole_between_short_ones(make_lab, mode, frame_size):
    lab = make_lab(mtu=9000)
    # On both sides of what one, two and more frames hold, and the longest there is.
    edges = (1792, 2048, 3584, 3840, 4096, 7680, 8192, 9000, 9014)
    sizes = [size + step for size in edges for step in (-1, 0, 1) if size + step <= 9014]
    sent = [numbered_frame(s, i) for i, s in enumerate(itertools.chain(*((60, s) for s in sizes)))]
    multi_buffer_case(lab=lab, mode=mode, frame_size=frame_size, sent=sent)


@in_receiver
def multi_buffer_case(lab, mode, frame_size, sent):
    with receiver(lab, mode, frame_size=frame_size) as (_, (xsk,)):
        for _ in range(5):  # so that the frames come back from the fill ring in a new order
            send_frames(lab, sent)
            assert drain(xsk) == sent


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_each_packet_arrives_on_the_queue_it_was_sent_to_and_on_no_other(make_lab, mode):
    queue_case(lab=make_lab(queues=4, generic=mode == "generic"), mode=mode)


@in_receiver
def queue_case(lab, mode):
    with receiver(lab, mode, queues=4) as (program, sockets):
        for queue in (2, 0, 3, 1):
            sent = [numbered_frame(100 + queue, number) for number in range(1000)]
            send_frames(lab, sent, queue)
            arrived = [drain(xsk, 5) for xsk in sockets]
            assert arrived == [sent if index == queue else [] for index in range(4)]
        assert [verdict.redirected for verdict in program.verdicts()] == [1000] * 4


@in_receiver
def test_frames_sent_without_an_skb_arrive_byte_for_byte_in_order(lab):
    with receiver(lab) as (program, (xsk,)):
        for size in (50, 60, 1514):
            for _ in range(3):
                # 200 at a time: the veth's own ring has room for 256.
                blast(lab, 200, size)
                assert drain(xsk) == [blasted_frame(size, number) for number in range(200)]
        assert program.verdicts()[0].redirected == 1800


@in_receiver
def test_many_more_packets_than_the_rings_hold_all_arrive_when_they_are_taken(lab):
    with receiver(lab) as (_, (xsk,)):
        numbers = itertools.count()
        for _ in range(20):
            sent = [numbered_frame(64, next(numbers)) for _ in range(RING // 2)]
            send_frames(lab, sent)
            assert drain(xsk, 5) == sent
        assert set(xsk.statistics().values()) == {0}


# -- statistics ---------------------------------------------------------------------------


@in_receiver
def test_packets_that_find_no_frame_count_as_dropped_for_an_empty_fill_ring(lab):
    with receiver(lab) as (program, (xsk,)):
        send_frames(lab, [numbered_frame(60, number) for number in range(RING + 100)])
        statistics = xsk.statistics()
        # In copy mode such a packet shows in both (net/xdp/xsk.c, __xsk_rcv()).
        assert (statistics["rx_dropped"], statistics["fill_ring_empty"]) == (100, 100)
        assert program.verdicts()[0].redirected == RING + 100
        arrived = drain(xsk)
        assert arrived == [numbered_frame(60, number) for number in range(RING)]


@in_receiver
def test_packets_that_find_the_rx_ring_full_count_there(lab):
    with load() as program, Umem(UMEM_BYTES) as umem, Xsk(umem, "rx0", 0, rx_size=64) as xsk:
        program.attach(lab.rx_ifindex, "native")
        program.bind_queue(0, xsk.fd)
        umem.populate_fill()
        send_frames(lab, [numbered_frame(60, number) for number in range(100)])
        assert drain(xsk) == [numbered_frame(60, number) for number in range(64)]
        assert xsk.statistics()["rx_ring_full"] == 36


# -- errors -------------------------------------------------------------------------------


@in_receiver
def test_a_queue_that_is_bound_already_is_busy_and_the_error_asks_who_uses_it(lab):
    with Umem(1 << 20) as first, Xsk(first, "rx0", 0), Umem(1 << 20) as second:
        with pytest.raises(KernelError, match=r"bind\(rx0 queue 0, COPY\): EBUSY.*another") as busy:
            Xsk(second, "rx0", 0)
        assert busy.value.errno == errno.EBUSY


@in_receiver
def test_what_the_device_lacks_is_said_with_its_name(lab):
    with Umem(1 << 20) as umem:
        with pytest.raises(KernelError, match=r"rx0 queue 1.*EINVAL.*ethtool -l rx0"):
            Xsk(umem, "rx0", 1)
        with pytest.raises(KernelError, match=r"rx9 queue 0.*ENODEV"):
            Xsk(umem, "rx9", 0)
        with pytest.raises(KernelError, match=r"ZEROCOPY.*--zero-copy off"):
            Xsk(umem, "rx0", 0, zero_copy=True)
        with pytest.raises(UsageError, match="RX ring size 3 is not a power of two"):
            Xsk(umem, "rx0", 0, rx_size=3)
        with pytest.raises(UsageError, match="TX ring size 5 is not a power of two"):
            Xsk(umem, "rx0", 0, tx_size=5)


@in_receiver
def test_a_umem_does_not_close_before_its_socket_and_both_close_twice(lab):
    umem = Umem(1 << 20)
    xsk = Xsk(umem, "rx0", 0)
    with pytest.raises(ValueError, match="the UMEM is in use by the socket of rx0 queue 0"):
        umem.close()
    xsk.close()
    xsk.close()
    umem.close()
    umem.close()
    for use in (xsk.statistics, xsk.receive):
        with pytest.raises(ValueError, match="socket is closed"):
            use()
    with pytest.raises(ValueError, match="UMEM is closed"):
        umem.populate_fill()
    with pytest.raises(ValueError, match="UMEM is closed"):
        Xsk(umem, "rx0", 0)


@in_receiver
def test_a_umem_serves_one_socket_and_says_so(lab):
    with Umem(1 << 20) as umem:
        with Xsk(umem, "rx0", 0), pytest.raises(ValueError, match="serves one socket"):
            Xsk(umem, "rx0", 0)
        with pytest.raises(ValueError, match="serves one socket"):
            Xsk(umem, "rx0", 0)


@in_receiver
def test_a_failed_bind_can_be_repeated_with_the_same_ring_sizes_only(lab):
    # Zero-copy first, then copy: the rings that the first attempt made are still there.
    sent = [numbered_frame(60, number) for number in range(100)]
    with load() as program, Umem(1 << 20) as umem:
        with pytest.raises(KernelError, match="ZEROCOPY"):
            Xsk(umem, "rx0", 0, rx_size=1024, zero_copy=True)
        for sizes in ({"rx_size": 64}, {"rx_size": 1024, "tx_size": 64}):
            with pytest.raises(ValueError, match="ring sizes are those of"):
                Xsk(umem, "rx0", 0, **sizes)
        with Xsk(umem, "rx0", 0, rx_size=1024) as xsk:
            program.attach(lab.rx_ifindex, "native")
            program.bind_queue(0, xsk.fd)
            umem.populate_fill()
            send_frames(lab, sent)
            assert drain(xsk) == sent


@in_receiver
def test_a_socket_sends_or_receives_only_with_the_ring_for_it(lab):
    with (
        Umem(1 << 20) as umem,
        Xsk(umem, "rx0", 0, rx_size=64) as xsk,
        pytest.raises(ValueError, match="without a TX ring"),
    ):
        xsk.send([bytes(60)])
    with Umem(1 << 20) as umem, Xsk(umem, "rx0", 0, rx_size=0, tx_size=64) as xsk:
        with pytest.raises(ValueError, match="without an RX ring"):
            xsk.receive()
        with pytest.raises(UsageError, match="3000 bytes needs multi_buffer"):
            xsk.send([bytes(3000)])


# -- what stays behind ----------------------------------------------------------------------


@in_receiver
def test_a_queue_can_be_bound_again_at_once(lab):
    for number in range(20):
        with receiver(lab) as (_, (xsk,)):
            send_frames(lab, [numbered_frame(60, number)])
            assert drain(xsk, 20) == [numbered_frame(60, number)]


@in_receiver
def test_a_hundred_starts_and_stops_leave_no_descriptor_program_map_or_link(lab):
    with receiver(lab):
        pass
    before = descriptors()
    seen: dict[str, set[int]] = {"prog": set(), "map": set(), "link": set()}
    for _ in range(100):
        with receiver(lab):
            for kind in seen:
                seen[kind] |= held_ids(kind)
    assert descriptors() == before
    assert min(len(ids) for ids in seen.values()) >= 100
    assert {kind: still_there(kind, ids) for kind, ids in seen.items()} == {
        "prog": set(),
        "map": set(),
        "link": set(),
    }
    assert attached_program(lab.rx_ifindex) is None


@pytest.mark.parametrize("link", [True, False], ids=["link", "netlink"])
@pytest.mark.parametrize("mode", ["native", "generic"])
@in_receiver
def test_a_program_that_is_attached_already_is_named_and_left_alone(lab, mode, link):
    with load() as first, load() as second:
        first.attach(lab.rx_ifindex, mode, link=link)
        there = attached_program(lab.rx_ifindex)
        assert (there.name, there.mode) == ("xdpcap_record", mode)
        for wanted, second_link in itertools.product(("native", "generic"), (True, False)):
            with pytest.raises(UsageError) as refused:
                second.attach(lab.rx_ifindex, wanted, link=second_link)
            assert f"(id {there.prog_id}, name 'xdpcap_record', {mode})" in str(refused.value)
            second.detach()
            assert attached_program(lab.rx_ifindex) == there
        first.detach()
        assert attached_program(lab.rx_ifindex) is None


@in_receiver
def test_a_netlink_attachment_that_was_replaced_is_not_detached(lab):
    with load() as ours, load() as other:
        ours.attach(lab.rx_ifindex, "native", link=False)
        our_id = attached_program(lab.rx_ifindex).prog_id
        replace_by_netlink(lab.rx_ifindex, other.fd)
        other_id = attached_program(lab.rx_ifindex).prog_id
        assert other_id != our_id
        ours.detach()
        assert attached_program(lab.rx_ifindex).prog_id == other_id
        replace_by_netlink(lab.rx_ifindex, -1)


def replace_by_netlink(ifindex: int, program_fd: int) -> None:
    """As `ip link set dev ... xdpdrv` does it, asking nobody; -1 takes the program off."""
    flags = [("IFLA_XDP_FD", program_fd), ("IFLA_XDP_FLAGS", XDP_FLAGS_DRV_MODE)]
    with IPRoute() as ipr:
        ipr.link("set", index=ifindex, xdp={"attrs": flags})


@in_receiver
def test_closing_a_program_takes_it_off_and_the_kernel_forgets_it(lab):
    program = load()
    program.attach(lab.rx_ifindex, "native")
    number = attached_program(lab.rx_ifindex).prog_id
    assert program_name(number) == "xdpcap_record"
    program.close()
    program.close()
    assert attached_program(lab.rx_ifindex) is None
    deadline = time.monotonic() + 5 * PATIENCE
    while program_name(number):
        assert time.monotonic() < deadline
        time.sleep(0.01)
