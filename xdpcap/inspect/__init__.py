"""Packets looked at without recording: dump of files and live, files filtered; imports record,
savefile, packets, rings, net, host, options and errors.
"""
