"""The magics. A thin face: parse, hand over to the core, show."""

from agentbox_magic.magics.sandbox_magics import SandboxMagics

__all__ = ["SandboxMagics"]
