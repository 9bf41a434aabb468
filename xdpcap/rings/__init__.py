"""AF_XDP memory, sockets and their four rings, TX metadata, and rings of copies; imports errors
and host.
"""
