"""Measurements of rings, recorder and machine, with the simulator and the lab; imports errors,
host, net, options, packets, programs, record, replay, rings and savefile.
"""
