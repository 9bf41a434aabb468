"""XDP programs: objects, settings, loading, attaching, counters, libxdp's dispatcher; imports
packets, net, host, options and errors.
"""
