"""Faults: processes that are killed, frozen and interrupted in the middle of everything, and disks that are full.

``host.py`` is a process that uses boxes, and does what it is told. ``world.py`` has an engine of its own that may be
stopped, and the one checker of what must be true afterwards. ``table.py`` says what is done, and how often: whole with
``make faults``, which writes ``docs/faults.md``, and a small sample of it in ``test_faults.py``.
"""
