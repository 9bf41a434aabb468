"""A replay: batches from files, pace, senders, the loop from file to ring, verification;
imports record (its process), programs, rings, savefile, packets, net, host, options and errors.
"""
