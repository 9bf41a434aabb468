"""Packets as bytes in memory: sets, flows, client and server, edits, dissection, filters;
imports errors, host and options.
"""
