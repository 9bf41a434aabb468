"""How fast and how exactly replays send, beside their limits and tcpreplay."""
