"""Measurements of the rings, of the recorder and of a machine, with the lab and the simulator;
imports everything but cli.
"""
