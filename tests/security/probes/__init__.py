"""What a box promises, as a table of attacks.

Each is Python that runs in a box as any user's code does, and ends in one word: ``done`` if the attack works, the name
of the error that stopped it (``EPERM``), of the signal that killed it (``SIGSYS``), the status of its run (``oom``), or
``holds`` where the code looked at what the kernel says of the wall and found it standing. ``denied`` are the words
promised; ``without`` are the walls (walls.py) that must be gone for it to work, which is its control.

The numbers are those of the list this suite was written from; some attacks of that list are tested elsewhere
(:data:`ELSEWHERE`). Each module has the attacks on one kind of wall; prelude.py is what their code begins with.
"""

from __future__ import annotations

from security.probes import amounts, devices, kernel, namespaces, outside, processes, rights

PROBES = [
    *rights.PROBES,
    *namespaces.PROBES,
    *processes.PROBES,
    *kernel.PROBES,
    *devices.PROBES,
    *amounts.PROBES,
    *outside.PROBES,
]

ELSEWHERE = {
    34: "test_stress.py: a gigabyte of output",
    35: "test_text.py, test_stress.py, conformance/test_streams.py: hostile text",
    36: "fuzz/test_wire.py, fuzz/test_reader.py: forged frames",
    37: "test_values_hostile.py, conformance/test_exchange.py: pickles",
    41: "test_receiver.py: forged downloads",
    42: "test_magic.py, test_reaper.py: killed kernels and what is not ours",
    43: "conformance/test_endings.py: what a cell leaves behind",
    44: "test_display.py: what a page shows",
    45: "test_images.py: what an image brings along",
}
"""Numbers whose attacks are tested by these."""

NOT_YET = {
    39: "there is no network to filter: `none` is the only one",
}
"""Numbers for which this version has no door."""
