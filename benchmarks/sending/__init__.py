"""Measures the rate and the timing accuracy of replays, their limits and tcpreplay."""
