"""What a person sees. Everything from a box passes through here before a page shows it."""

from agentbox_magic.display.budget import Budget
from agentbox_magic.display.doctor import doctor_table
from agentbox_magic.display.fold import FoldedStream
from agentbox_magic.display.footer import footer
from agentbox_magic.display.pace import Pacer
from agentbox_magic.display.progress import ProgressBar
from agentbox_magic.display.safe import safe_bundle

__all__ = ["Budget", "FoldedStream", "Pacer", "ProgressBar", "doctor_table", "footer", "safe_bundle"]
