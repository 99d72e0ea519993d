"""Which user a box is: one that no other box of the engine has, because what the kernel counts by user they share.

It is drawn by chance, and after the box's creation the engine is asked whether another has it, whoever made that.
"""

from __future__ import annotations

import secrets

from agentbox_magic import config, hardening
from agentbox_magic.engine import Engine
from agentbox_magic.errors import SandboxError
from agentbox_magic.traits import Traits

MAPPED = range(10_000, 60_000)
"""Where a box's users are others on the host, which are the engine's own: above the image's users, and below 65536,
which is all that such engines map."""
UNMAPPED = range(65_536, 100_000)
"""Where they are the host's: above the users of people (to 60000), of systemd and of 16 bits, and below those that are
handed out for containers with a mapping (100000) and those that directories give to people (200000 as a rule):
https://systemd.io/UIDS-GIDS/"""


def of(traits: Traits) -> range:
    """The users that boxes of an engine may be.

    Raises:
        SandboxError: ``AGENTBOX_UIDS`` is not a range.
    """
    return config.uid_range() or (MAPPED if traits.userns or traits.rootless else UNMAPPED)


def draw(engine: Engine, taken: frozenset[int] = frozenset()) -> int:
    """One of them that is not taken, by chance.

    Raises:
        SandboxError: all are taken, or ``AGENTBOX_UIDS`` is not a range.
    """
    users = of(engine.traits)
    if not taken:
        return users[secrets.randbelow(len(users))]
    free = sorted(set(users) - taken)
    if not free:
        raise SandboxError(
            f"all {len(users)} users of {users[0]}-{users[-1]} are other boxes'; end some, or set AGENTBOX_UIDS to a "
            "larger range, such as AGENTBOX_UIDS=65536-99999"
        )
    return secrets.choice(free)


def taken(engine: Engine) -> frozenset[int]:
    """Those of all boxes on an engine."""
    found = (one["Labels"].get(hardening.UID, "") for one in engine.containers(hardening.UID))
    return frozenset(int(uid) for uid in found if uid.isdecimal())


def is_shared(engine: Engine, uid: int, container: str) -> bool:
    """Whether another container than this one has a user."""
    return any(one["Id"] != container for one in engine.containers(f"{hardening.UID}={uid}"))
