"""Edits of packets in memory: MAC addresses, VLAN tags, IP addresses."""
