"""A page gets what it can take."""

from __future__ import annotations

from agentbox_magic.display import Pacer


def test_a_page_is_shown_the_latest_state() -> None:
    """Of more than it can take; and each display that stays, in order."""
    seen: list[object] = []
    pacer = Pacer(burst=3, rate=0)
    for number in range(10):
        pacer.clear(wait=True, act=lambda: seen.append("clear"))
        pacer.show(None, lambda number=number: seen.append(number))  # type: ignore[misc]  # bound for this turn
        pacer.write(lambda number=number: seen.append(str(number)))  # type: ignore[misc]  # likewise
    assert pacer.flush() is not None
    pacer.clear(wait=True, act=lambda: seen.append("last"))  # nothing follows: what is there stays
    pacer.finish()
    assert seen == ["clear", 0, "0", "clear", "clear", 9, "9", "last"]
    assert pacer.flush() is None
