"""Measurements of speed: `record_speed` for the whole recorder, `test_pieces` for its parts.

Nothing here is installed with the package.  docs/performance.md explains how to read them.
"""
