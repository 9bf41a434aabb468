"""Guests for tests: Debian's kernels under QEMU, with this machine's files and NICs of their own.

Nothing is installed; what is downloaded lies in a cache outside the tree (`cache.py`).  Layers,
from the bottom: `archive` (packages of the distribution), `initramfs` and `images` (what a guest
boots), `machine` (one guest, one command in it), `matrix` (all of them, and the table).
"""
