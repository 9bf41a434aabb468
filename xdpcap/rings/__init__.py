"""AF_XDP memory, sockets and their four rings, TX metadata, and rings of copies; imports host
and errors.
"""
