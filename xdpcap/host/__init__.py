"""This machine and this process: kernel, rights, clocks, CPU time, wake-ups; imports errors."""
