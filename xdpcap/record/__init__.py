"""A recording: session, workers, the loop from ring to file, the ledger, what others see of it;
imports programs, rings, savefile, packets, net, host, options and errors.
"""
