"""What each command is asked to do, as checked plain data, and how people write sizes, times
and addresses; imports errors.
"""
