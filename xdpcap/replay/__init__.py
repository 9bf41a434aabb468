"""A replay: batches from files, pace, senders, the loop from memory to ring, verification;
imports errors, host, net, options, packets, programs, record, rings and savefile.
"""
