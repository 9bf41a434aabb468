"""How many times as long as on a machine everything may take where the tests run.

In an emulated guest a start takes seconds, and more beside other guests.  It is for what a test
waits for; what it says about times it says of real machines.
"""

from __future__ import annotations

import os

PATIENCE = 10 if "XDPCAP_VM_KERNEL" in os.environ else 1
