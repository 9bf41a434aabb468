"""`python -m xdpcap` is `xdpcap`."""

from xdpcap.cli import main

main()
