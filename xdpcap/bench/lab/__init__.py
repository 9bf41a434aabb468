"""A private network to capture in: two namespaces, one veth pair, traffic of known content.

Tests, the demonstration and the benchmarks use it; a recording never does.  Nothing
outside the two namespaces is touched.
"""

from xdpcap.bench.lab.namespaces import in_netns, sweep
from xdpcap.bench.lab.pair import Lab

__all__ = ["Lab", "in_netns", "sweep"]
