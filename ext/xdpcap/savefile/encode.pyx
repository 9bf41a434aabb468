"""Packet records of pcapng and pcap files, encoded in place.

Purpose: the inline functions of `_savefile.pxd`, which the hot loop calls, and a
Python face of them for tests and tool authors.  Knows nothing of AF_XDP.
Owner: whoever owns the Encoder; nothing is shared.

Source relied on: draft-ietf-opsawg-pcapng section 4.3 (Enhanced Packet Block);
draft-ietf-opsawg-pcap section 5 (packet record, nanosecond variant).
"""

from libc.stdlib cimport free, malloc


cdef void init_encoder(Encoder *e, SavefileFormat format, uint32_t snaplen,
                       uint32_t interface_id, uint32_t queue, int hash_algorithm=-1):
    memset(e, 0, sizeof(Encoder))
    e.format = format
    e.snaplen = snaplen if snaplen else 0xFFFFFFFF
    e.interface_id = interface_id
    e.queue = queue
    e.hash_algorithm = hash_algorithm if format == FORMAT_PCAPNG else -1
    # One id on two interfaces would say that both saw the same packet (section 4.3).
    e.packet_id = (<uint64_t>interface_id << 58) ^ (<uint64_t>queue << 48)


cdef class RecordEncoder:
    """Encodes packets to records one at a time, as the recorder does.

    `format` is "pcapng" or "pcap"; `snaplen` in bytes, 0 for whole packets;
    `hash_algorithm` the octet of epb_hash for all hashes, -1 where there are none.
    """

    cdef Encoder encoder

    def __cinit__(self, str format not None, *, uint32_t snaplen=0, uint32_t interface_id=0,
                  uint32_t queue=0, int hash_algorithm=-1):
        init_encoder(&self.encoder, {"pcapng": FORMAT_PCAPNG, "pcap": FORMAT_PCAP}[format],
                     snaplen, interface_id, queue, hash_algorithm)

    def encode(self, bytes packet not None, uint64_t ts_ns, *, origlen=None, uint64_t drop_count=0,
               hash=None, verdict=None, uint32_t tag=0):
        """The record of one packet as bytes; `ts_ns` since the epoch, UTC.

        `drop_count` packets were lost since the last record (pcapng only).  `hash` is the
        packet's, None for none (pcapng only); `verdict` the enum xdp_action that a program decided
        on, as well; `tag` a VLAN tag to put back, its protocol in the upper half.
        """
        cdef uint32_t length = <uint32_t>len(packet) + (TAG_BYTES if tag else 0)
        cdef uint32_t caplen = min(length, self.encoder.snaplen)
        cdef uint32_t head, total, done = 0, taken = 0
        cdef const unsigned char *data = packet
        cdef unsigned char *out = <unsigned char *>malloc(
            record_bound(&self.encoder, caplen) + EPB_HASH + EPB_VERDICT)
        if out == NULL:
            raise MemoryError
        try:
            self.encoder.drop_count += drop_count
            if hash is not None:
                encode_hash(&self.encoder, hash)
            if verdict is not None:
                encode_verdict(&self.encoder, verdict)
            head = encode_head(&self.encoder, out, ts_ns, caplen,
                               length if origlen is None else origlen)
            if tag:
                done = put_tagged(out + head, data, tag, caplen, &taken)
            memcpy(out + head + done, data + taken, caplen - done)
            total = encode_tail(&self.encoder, out, caplen)
            return (<const char *>out)[:total]
        finally:
            free(out)
