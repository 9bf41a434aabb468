"""Capture files: names, rotation, retention, headers, readers, the encoder of records and the
block sink; imports errors, host and packets.

`headers` builds the blocks that stand before and after the packets, `names`
and `directory` decide what a file is called and when it gets that name,
`rotation` tells when the next one begins, `reader` reads files back. Nothing
here runs per packet while recording: packet records are encoded by
`xdpcap.savefile.encode`, and nothing here knows where packets come from.
"""
