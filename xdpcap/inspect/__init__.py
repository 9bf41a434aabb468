"""A look at packets without recording: dump of files and of live traffic, files filtered;
imports errors, host, net, options, packets, record, rings and savefile.
"""
