"""AF_XDP zero-copy packet capture to pcap and pcapng files."""

__version__ = "0.1.0"
