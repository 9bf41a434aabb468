"""XDP programs: objects, settings, loading, attaching, counters, libxdp's dispatcher; imports
errors, host, net, options and packets.
"""
