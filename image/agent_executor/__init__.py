"""What runs inside a box: a supervisor (PID 1) and the workers it forks.

Only the standard library is imported here, so that any image with Python 3.9 or newer can carry it; IPython is used
where the image has it. The host imports :mod:`agent_executor.wire` from this same package: both ends of the pipe share
one description of it.
"""
