"""The text that whatever an RE2 expression matches must contain: a search for bytes is many times as fast as the expression.

Only what is surely required is told: one run of plain characters outside of groups, alternatives and repetitions. What is not
understood for sure ends a run, or the whole search for one. Not here: matching (`query.py`).
"""

from __future__ import annotations

_ESCAPED = frozenset(r"\.+*?()|[]{}^$/-_:;,=!@#%&~\"'<> `")
# Escapes of one letter that stand for a class, a place or a single other character: each ends a run, and takes no more.
_CLASSES = frozenset("dDwWsSbBAzafnrtv")


def required(pattern: str) -> str:
    """The longest run of characters that each match of `pattern` has, "" where none is known."""
    runs: list[str] = []
    run: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "|":
            return ""
        if character in "*?{":
            if character == "{" and not _counted(pattern, at):
                return ""
            # The character before may be absent, or repeated: what is after it need not follow what is before it.
            del run[-1:]
            at = pattern.index("}", at) if character == "{" else at
        elif character == "\\" and pattern[at + 1 : at + 2] in _ESCAPED and at + 1 < len(pattern):
            at += 1
            run.append(pattern[at])
            at += 1
            continue
        elif character not in "\\.+^$([":
            run.append(character)
            at += 1
            continue
        runs.append("".join(run))
        run = []
        end = _after(pattern, at)
        if end == 0:
            return ""
        at = end
    return max([*runs, "".join(run)], key=len)


def _counted(pattern: str, at: int) -> bool:
    end = pattern.find("}", at)
    return end > 0 and all(c in "0123456789," for c in pattern[at + 1 : end])


def _after(pattern: str, at: int) -> int:
    """Where what begins at `at`, and is no plain character, ends; 0 where that is not known."""
    character = pattern[at]
    if character == "\\":
        return at + 2 if pattern[at + 1 : at + 2] in _CLASSES and at + 1 < len(pattern) else 0
    if character == "[":
        return _class_end(pattern, at)
    if character != "(":
        return at + 1
    # A flag may change what characters mean, from here on; a name changes nothing.
    if pattern.startswith("(?", at) and not pattern.startswith(("(?:", "(?P<"), at):
        return 0
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            if pattern[at + 1 : at + 2] == "Q":
                return 0
            at += 1
        elif pattern[at] == "[":
            at = _class_end(pattern, at) - 1
            if at < 0:
                return 0
        elif pattern[at] == "(":
            if depth and pattern.startswith("(?", at) and not pattern.startswith(("(?:", "(?P<"), at):
                return 0
            depth += 1
        elif pattern[at] == ")":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return 0


def _class_end(pattern: str, at: int) -> int:
    """Where a class in brackets ends, 0 where that is not known."""
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern.startswith("]", at)
    while at < len(pattern) and pattern[at] != "]":
        if pattern.startswith("[", at):
            return 0  # of [:alpha:], or a bracket that stands for itself
        at += 2 if pattern[at] == "\\" else 1
    return at + 1 if at < len(pattern) else 0
