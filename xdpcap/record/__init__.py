"""A recording: session, workers, the loop from ring to file, the ledger, and what other
processes see of it; imports errors, host, net, options, packets, programs, rings and savefile.
"""
