"""What drivers do of their own accord when programs and sockets come and go."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pytest
from capture_files import contents
from forked_command import start
from ledger_checks import check_books
from leftovers import attached
from nic_pair import NicPair, send
from test_guest_record import check_in_order, record_all
from timeouts import PATIENCE

from xdpcap import net
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.programs.builds import variants
from xdpcap.programs.program import Program
from xdpcap.rings.umem import Umem
from xdpcap.rings.xsk import Xsk

FRAMES = 256


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
@pytest.mark.parametrize("detach_first", [True, False], ids=["detach-first", "sockets-first"])
def test_the_device_works_on_in_whichever_order_it_is_taken_down(lab, record, detach_first):
    """xdpcap detaches first; a socket that closes first is what a crash may look like."""
    with lab.channels(1):  # every flow on the queue with the socket
        for _ in range(3):
            in_netns(lab.rx_ns, up_and_down, lab, detach_first)
            assert attached(lab) is None
            lab.wait_up()
    sent = [numbered_frame(60, number) for number in range(200)]
    check_in_order(record_all(lab, record("--json"), sent), sent)


def up_and_down(lab: NicPair, detach_first: bool) -> None:
    """A zero-copy socket on queue 0 that has received, closed before or after its program."""
    variant = next(variants())
    program = Program(variant.path, lab.queues, clock=variant.clock)
    with (
        contextlib.closing(program),
        Umem(FRAMES * 4096, frame_size=4096, fill_size=FRAMES) as umem,
    ):
        program.attach(lab.rx_ifindex, "native")
        with Xsk(umem, lab.rx_name, 0, rx_size=FRAMES, zero_copy=True) as xsk:
            assert xsk.zero_copy
            umem.populate_fill()
            program.bind_queue(0, xsk.fd)
            assert net.wait_for_carrier(lab.rx_name, 30.0)
            # virtio_net takes frames from the fill ring only when it is woken (need_wakeup).
            assert xsk.receive(64, 10) == []
            send(lab, [numbered_frame(60, number) for number in range(64)])
            got = []
            while more := xsk.receive(64, 1000):
                got += more
            assert len(got) == 64
            if detach_first:
                program.detach()


@pytest.mark.nics("igb")
@pytest.mark.zero_copy
def test_the_link_that_igb_drops_is_waited_for_and_told_of(lab, record):
    recorder = record("--json")
    told = recorder.stderr
    assert "rx0: the driver has reset the NIC; waiting for its link" in told
    assert "rx0: the link is back after" in told
    assert told.index("the link is back") < told.index("recording rx0")
    # From here on there is nothing to wait for.
    sent = [numbered_frame(60, number) for number in range(100)]
    result = record_all(lab, recorder, sent)
    assert sorted(contents(result.files)) == sorted(sent)


@pytest.mark.nics("igb")
def test_another_rss_key_moves_flows_and_loses_none(lab, record):
    """igb makes up a key at each start: no test and no file may depend on where a flow lands."""
    key = ":".join(f"{7 * n % 256:02x}" for n in range(40))
    command = ["ethtool", "-X", "rx0", "hkey", key]
    done = in_netns(lab.rx_ns, subprocess.run, command, capture_output=True, text=True)
    if done.returncode:  # a driver that keeps its key to itself: it differs at the next start
        assert "not supported" in done.stderr.lower(), done.stderr
    sent = [numbered_frame(60, number) for number in range(200)]
    check_in_order(record_all(lab, record("--json"), sent), sent)


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_frames_that_are_too_small_for_the_nic_mean_a_copy_and_no_lost_packet(lab, record):
    """In frames of 2048 a NIC keeps 1024 to 1792 bytes: virtio_net drops what is longer on 7.2,
    igb makes two packets of it, and neither is counted anywhere."""
    recorder = record("--json", "--frame-size", "2048")
    assert "copying, though its driver has zero-copy" in recorder.stderr
    assert "leave out --frame-size" in recorder.stderr
    sent = [numbered_frame(size, size) for size in range(1000, 1515)]
    result = record_all(lab, recorder, sent)
    check_in_order(result, sent)
    assert not result.total["zero_copy"]
    refused = record("--frame-size", "2048", "--zero-copy", "require", ready=False).wait(60.0)
    assert refused.returncode == 2
    assert "with MTU 1500 a packet may have 1522 bytes" in refused.stderr


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
def test_every_length_comes_whole_in_zero_copy(lab, record):
    sent = [numbered_frame(size, size) for size in range(60, 1515)]
    result = record_all(lab, record("--json", "--zero-copy", "require"), sent)
    check_in_order(result, sent)
    assert check_books(result)["written"] == len(sent)


@pytest.mark.nics("virtio-plain")
def test_the_feature_bit_is_not_believed(lab, record, expected):
    """Without iommu_platform virtio_net claims zero-copy and refuses the bind."""
    claims = in_netns(lab.rx_ns, net.claims_zero_copy, lab.rx_ifindex)
    recorder = record("--json")
    assert claims == ("copying, though its driver has zero-copy" in recorder.stderr)
    assert not recorder.stop(timeout_s=30.0).total["zero_copy"]


@pytest.mark.nics("virtio", "igb")
@pytest.mark.zero_copy
@pytest.mark.parametrize("mode", ["rx-drop", "tx-only"])
def test_bench_measures_zero_copy_rings(lab, mode):
    end, namespace = ("rx0", lab.rx_ns) if mode == "rx-drop" else ("tx0", lab.tx_ns)
    options = ["--zero-copy", "require", "--duration", "1s", "--ring-size", "512", "--json"]
    process = in_netns(
        namespace, start, ["bench", mode, "-i", end, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    stdout, stderr = process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert report["zero_copy"]
    assert (report["packets"] > 0) == (mode == "tx-only")
