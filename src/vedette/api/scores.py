"""How well a name fits what was typed, 0 to 1, by the two measures of Prometheus' search API. Pure.

`subsequence` wants all letters in their order and likes those that stand together; `jarowinkler` (Winkler 1990) forgives some that are
wrong or out of place. Not here: which names there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Score = Callable[[str], float | None]
"""A name's score, None where it is not found."""
ALGORITHMS = ("subsequence", "jarowinkler")
_PREFIX, _SCALE = 4, 0.1
"""How many letters at the beginning count more for Jaro and Winkler, and how much each of them."""


def scorer(searches: Sequence[str], algorithm: str, threshold: float, *, case_sensitive: bool) -> Score:
    """The best score of any of `searches`; without any each name has 1."""
    if not searches:
        return lambda _name: 1.0
    judge = _subsequence if algorithm == "subsequence" else _alike
    wanted = [one if case_sensitive else one.lower() for one in searches]

    def score(name: str) -> float | None:
        text = name if case_sensitive else name.lower()
        found = [given for one in wanted if (given := judge(one, text, threshold)) is not None]
        return max(found, default=None)

    return score


def _subsequence(wanted: str, text: str, threshold: float) -> float | None:
    # What a name begins with is as good as the name.
    score = 1.0 if text.startswith(wanted) else subsequence(wanted, text)
    return score if score > 0 and threshold <= score else None


def _alike(wanted: str, text: str, threshold: float) -> float | None:
    if wanted in text:
        return 1.0 if text.startswith(wanted) else 0.9
    score = jaro_winkler(wanted, text)
    # Without a threshold only what has the text in it is found.
    return score if threshold > 0 and score >= threshold else None


def subsequence(wanted: str, text: str) -> float:
    """The best of taking each letter of `wanted` where it comes next, from any place where the first stands; 0 where there is none.

    Runs count by the square of their length; letters before, between and behind them are taken off, as parts of the text's length (those
    behind half). Divided by the square of the length of `wanted`, which is what finding it whole gives.
    """
    if not wanted or wanted == text:
        return 1.0
    best, start = -1.0, text.find(wanted[0])
    while 0 <= start <= len(text) - len(wanted):
        score = _from(wanted, text, start)
        if score is None:
            # What cannot be completed from here cannot be from any later place.
            break
        best = max(best, score)
        start = text.find(wanted[0], start + 1)
    return max(best, 0.0) / (len(wanted) * len(wanted))


def _from(wanted: str, text: str, start: int) -> float | None:
    score, taken, at, behind = 0.0, 0, start, 0
    while taken < len(wanted):
        at = text.find(wanted[taken], at)
        if at < 0:
            return None
        begin = at
        while taken < len(wanted) and at < len(text) and text[at] == wanted[taken]:
            at, taken = at + 1, taken + 1
        score += (at - begin) ** 2 - (begin - behind) / len(text)
        behind = at
    return score - (len(text) - behind) / len(text) / 2


def jaro_winkler(a: str, b: str) -> float:
    """1 for equal texts, 0 for those that share nothing."""
    if a == b:
        return 1.0
    if not a or not b:
        return 0.0
    reach = max(0, max(len(a), len(b)) // 2 - 1)
    taken = [False] * len(b)
    mine = []
    for i, letter in enumerate(a):
        for j in range(max(0, i - reach), min(len(b), i + reach + 1)):
            if not taken[j] and b[j] == letter:
                taken[j] = True
                mine.append(letter)
                break
    if not mine:
        return 0.0
    theirs = [letter for letter, is_taken in zip(b, taken, strict=True) if is_taken]
    moved = sum(x != y for x, y in zip(mine, theirs, strict=True)) / 2
    n = len(mine)
    jaro = (n / len(a) + n / len(b) + (n - moved) / n) / 3
    prefix = 0
    while prefix < min(_PREFIX, len(a), len(b)) and a[prefix] == b[prefix]:
        prefix += 1
    return jaro + prefix * _SCALE * (1 - jaro)
