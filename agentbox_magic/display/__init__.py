"""What a person sees. Everything from a box passes through here before a page shows it."""

from agentbox_magic.display.footer import footer
from agentbox_magic.display.progress import ProgressBar
from agentbox_magic.display.safe import safe_bundle

__all__ = ["ProgressBar", "footer", "safe_bundle"]
