"""Tab completion of ``%%sandbox`` and ``%sandbox``, from the parser and the table of verbs."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from agentbox_magic.errors import SandboxError
from agentbox_magic.magics.parser import cell_parser
from agentbox_magic.magics.verbs import VERBS, runtimes

if TYPE_CHECKING:
    from agentbox_magic.magics.sandbox_magics import SandboxMagics


def _images(magics: SandboxMagics) -> Iterable[str]:
    from agentbox_magic.engine import Engine

    return Engine.connect().image_names()


def _variables(magics: SandboxMagics) -> Iterable[str]:
    """Variables of the notebook that hold data."""
    hidden = {"In", "Out", *magics.shell.user_ns_hidden}
    for name, value in list(magics.shell.user_ns.items()):
        is_code = isinstance(value, types.ModuleType) or callable(value)
        if not (name.startswith("_") or name in hidden or is_code):
            yield name


VALUES: dict[str, Callable[[SandboxMagics], Iterable[str]]] = {
    "image": _images,
    "runtime": runtimes,
    "session": lambda magics: magics.sessions,
    "input": _variables,
    "language": lambda magics: ("python", "bash"),
    "network": lambda magics: ("none",),
}
"""What an option's value can be, where the parser does not know."""


def complete_cell(magics: SandboxMagics, before: str) -> tuple[str, list[str]]:
    """What a ``%%sandbox`` line may go on with: the part to be replaced, and the words."""
    words = before.split(" ")
    word, given = words[-1], [one for one in words[:-1] if one.startswith("-")]
    actions = cell_parser()._option_string_actions
    action = actions.get(given[-1]) if given else None
    takes_more = action is not None and (action.nargs == "+" or words[-2:-1] == given[-1:]) and action.nargs != 0
    if action is not None and takes_more and not word.startswith("-"):
        start = max(word.rfind(mark) for mark in ",=") + 1 if action.nargs == "+" else 0
        values = action.choices or VALUES.get(action.dest, lambda magics: ())(magics)
        return word[start:], sorted(str(value) for value in values)
    used = {actions[one].dest for one in given if one in actions}
    long = {one.option_strings[-1] for one in actions.values() if one.dest not in used or one.nargs == "+"}
    return word, sorted(long)


def complete_line(magics: SandboxMagics, before: str) -> tuple[str, list[str]]:
    """What a ``%sandbox`` line may go on with."""
    words = before.split(" ")
    verb = VERBS.get(words[0])
    if len(words) == 1:
        return words[0], list(VERBS)
    return words[-1], sorted(verb.values(magics)) if verb and len(words) == 2 else []


def matcher(magics: SandboxMagics) -> Any:
    """The matcher to put among IPython's ``custom_matchers``."""

    @context_matcher(identifier="agentbox_magic")
    def match(context: CompletionContext) -> dict[str, Any]:  # a SimpleMatcherResult
        before = context.line_with_cursor[: context.cursor_position]
        magic, _, rest = before.lstrip().partition(" ")
        complete: Any = {"%sandbox": complete_line}.get(magic)
        if magic == "%%sandbox" and context.cursor_line == 0:
            complete = complete_cell
        if complete is None or not before.lstrip()[len(magic) :]:
            return {"completions": []}
        try:
            fragment, words = complete(magics, rest.lstrip())
        except SandboxError:  # no engine to ask; nobody asked for an error
            return {"completions": []}
        found = [SimpleCompletion(text=word, type="magic") for word in words if word.startswith(fragment)]
        return {"completions": found, "matched_fragment": fragment, "suppress": True}

    return match
