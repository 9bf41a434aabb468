"""`--rss symmetric` on NICs that hash: both directions on one queue, and as before afterwards."""

from __future__ import annotations

import signal
import struct

import pytest
from capture_files import contents, of_queue
from leftovers import attached
from test_guest_record import record_all

from xdpcap import net
from xdpcap.bench.lab import in_netns
from xdpcap.bench.lab.frames import numbered_frame
from xdpcap.packets.build import checksum

CONVERSATIONS = 48


def directions(number):
    """A packet of a UDP conversation and one of the other direction."""
    ends = [bytes([192, 0, 2, 9]), bytes([198, 51, 100, number])]
    ports = [b"\x00\x35", struct.pack("!H", 40000 + 7 * number)]
    for there in (0, 1):
        frame = bytearray(numbered_frame(60, 2 * number + there))
        frame[26:34] = ends[there] + ends[1 - there]
        frame[34:38] = ports[there] + ports[1 - there]
        frame[24:26] = bytes(2)
        frame[24:26] = struct.pack("!H", checksum(bytes(frame[14:34])))
        frame[40:42] = bytes(2)  # UDP: none was computed
        yield bytes(frame)


def hashed_by(lab):
    return in_netns(lab.rx_ns, net.rss, lab.rx_name)


def queues_of_conversations(result, sent):
    """The queue of each packet, in the order sent, as pairs of one conversation."""
    where = {frame: queue for queue in range(4) for frame in contents(of_queue(result, queue))}
    return list(zip(*[map(where.get, sent)] * 2, strict=True))


@pytest.mark.nics("virtio-mq")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda one: one.name)
def test_both_directions_come_to_one_queue_and_the_key_is_as_before(lab, record, expected, number):
    if not expected.rss_key:
        result = record("--rss", "symmetric", ready=False).wait(60.0)
        assert (result.returncode, result.files) == (2, [])
        assert "rx0 does not spread packets by a hash that could be set" in result.stderr
        assert attached(lab) is None
        return
    sent = [frame for one in range(CONVERSATIONS) for frame in directions(one)]
    before = hashed_by(lab)
    assert before.key and not before.symmetric
    recorder = record("--json", "--rss", "symmetric")
    assert "symmetric: both directions of a connection come to one queue" in recorder.stderr
    assert hashed_by(lab).symmetric
    if number == signal.SIGKILL:
        recorder.stop(number, timeout_s=30.0)
    else:
        pairs = queues_of_conversations(record_all(lab, recorder, sent), sent)
        assert all(there == back for there, back in pairs)
        assert len({there for there, _ in pairs}) > 1
    recorder.wait_for(lambda: hashed_by(lab) == before, 30.0)
    assert attached(lab) is None


@pytest.mark.nics("igb")
def test_a_nic_whose_key_is_the_drivers_own_is_refused(lab, record):
    result = record("--rss", "symmetric", ready=False).wait(60.0)
    assert (result.returncode, result.files) == (2, [])
    assert "lets neither the key of its hash be set nor its input" in result.stderr
    assert "--hash program" in result.stderr
    assert attached(lab) is None
