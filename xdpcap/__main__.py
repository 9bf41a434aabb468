"""`python -m xdpcap`, and what the command `xdpcap` runs."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line.

    While it is still being imported Ctrl-C ends the process as it ends any other, without
    Python's traceback; a recording has its own handler before it changes anything.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.environ.get("XDPCAP_DEBUG") != "1":
        # "Exception ignored in ..." of a library's clean-up tells a user nothing.
        sys.unraisablehook = lambda unraisable: None
    from xdpcap.cli import main as run

    run()


if __name__ == "__main__":
    main()
