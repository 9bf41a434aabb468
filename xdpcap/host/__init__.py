"""This machine and this process: kernel, rights, clocks, CPU time, threads, wake-ups; imports
errors.
"""
