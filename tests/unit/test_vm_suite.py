"""What the host does before it boots a guest."""

from __future__ import annotations

import subprocess
import sys

from guests.machine import ROOT
from guests.suite import WARM


def test_the_modules_that_are_compiled_for_guests_can_be_imported():
    subprocess.run([sys.executable, "-c", WARM], cwd=ROOT, check=True)
