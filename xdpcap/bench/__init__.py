"""Measurements of rings, recorder and machine, with the simulator and the lab; imports errors,
host, net, options, programs, record, replay, rings and savefile.
"""
