"""Finds pairs of submissions that share more code than the skeleton and the habits of the class explain.

A pointer for a person, never a verdict. The method is winnowing (Schleimer, Wilkerson, Aiken: "Winnowing: Local
Algorithms for Document Fingerprinting", SIGMOD 2003, section 3). A library was looked for: compare50 is under the GPL
and its attrs cannot stand beside Jupyter's, pycode-similar ended in 2020, and copydetect weighs what everybody writes
as much as what only two do: among 42 right solutions of one origin a disguised copy came 357th of 903, and here first.
"""

import io
import keyword
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

RUN, WINDOW = 16, 8  # tokens: a shared run of RUN + WINDOW - 1 is always seen, one shorter than RUN never
LEAST_SHARE = 0.4  # of what sets the smaller one apart
LEAST_WEIGHT = 12.0  # in fingerprints that only these two have: some 10 lines
MAX_PAIRS, MAX_LINES = 25, 60  # that are shown; lines of one region
_SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

Place = tuple[str, int, int]  # file, first and last line


@dataclass(frozen=True)
class Pair:
    """Two submissions with code in common.

    Attributes:
        first, second: students.
        share: 0 to 1, how much of what sets the smaller one apart stands in the other one too.
        regions: (place in the first, place in the second) where the same code stands, in order.
    """

    first: str
    second: str
    share: float
    regions: tuple[tuple[Place, Place], ...]


def similar_pairs(sources: dict[str, dict[str, str]], skeleton: dict[str, str]) -> list[Pair]:
    """Compare every submission with every other.

    Names of variables, comments, line breaks and the order of functions do not matter. What stands in the skeleton
    does not count, and what n students have counts 1 / (n - 1): for little when all have found it.

    Args:
        sources: student id -> file name -> text.
        skeleton: file name -> text that everybody started from.

    Returns:
        At most `MAX_PAIRS`, the most alike first.
    """
    known = {code for text in skeleton.values() for code, *_ in _runs(text)}
    prints = {student: _fingerprints(files, known) for student, files in sources.items()}
    holders = defaultdict(list)
    for student in sorted(prints):
        for code in prints[student]:
            holders[code].append(student)
    weight = {code: 1 / max(1, len(students) - 1) for code, students in holders.items()}
    total = {student: sum(weight[code] for code in codes) for student, codes in prints.items()}
    shared: dict[tuple[str, str], list[int]] = defaultdict(list)
    most = max(5, len(sources) // 10)  # what more students have says nothing on two of them, and would take long
    for code, students in holders.items():
        if 1 < len(students) <= most:
            for place, first in enumerate(students):
                for second in students[place + 1 :]:
                    shared[first, second].append(code)
    pairs = []
    for (first, second), codes in shared.items():
        common = sum(weight[code] for code in codes)
        share = common / min(total[first], total[second])
        if common >= LEAST_WEIGHT and share >= LEAST_SHARE:
            pairs.append(Pair(first, second, share, _regions(codes, prints[first], prints[second])))
    return sorted(pairs, key=lambda pair: (-pair.share, pair.first, pair.second))[:MAX_PAIRS]


def _fingerprints(files: dict[str, str], known: set[int]) -> dict[int, Place]:
    """Return the fingerprints of a submission: of every `WINDOW` runs in a row the one with the smallest hash."""
    chosen = {}
    for name, text in sorted(files.items()):
        runs = [run for run in _runs(text) if run[0] not in known]
        for start in range(max(1, len(runs) - WINDOW + 1)) if runs else ():
            code, first, last = min(runs[start : start + WINDOW])
            chosen.setdefault(code, (name, first, last))
    return chosen


def _runs(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield (hash, first line, last line) of every `RUN` tokens in a row."""
    codes = list(_codes(text))
    for start in range(len(codes) - RUN + 1):
        run = codes[start : start + RUN]
        yield hash(tuple(code for code, _ in run)), run[0][1], run[-1][1]  # of numbers: the same on every day


def _codes(text: str) -> Iterator[tuple[int, int]]:
    """Yield (number, line) of every token; all variables have the same number, attributes have their own."""
    before = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in _SKIPPED:
                continue
            word = token.string
            if token.type == tokenize.STRING:
                word = '""'
            elif token.type == tokenize.NAME and before != "." and not keyword.iskeyword(word):
                word = "name"
            yield crc32(word.encode("utf-8", "surrogatepass")), token.start[0]
            before = token.string
    except (tokenize.TokenError, SyntaxError, ValueError):
        return  # what stands before the mistake is compared


def _regions(codes: list[int], first: dict[int, Place], second: dict[int, Place]) -> tuple[tuple[Place, Place], ...]:
    """Join fingerprints that follow each other in both submissions."""
    regions: list[list[Place]] = []
    for here, there in sorted((first[code], second[code]) for code in codes):
        if regions and all(_touch(old, new) for old, new in zip(regions[-1], (here, there))):
            old = regions[-1]
            regions[-1] = [(a[0], min(a[1], b[1]), max(a[2], b[2])) for a, b in zip(old, (here, there))]
        else:
            regions.append([here, there])
    return tuple((here, there) for here, there in regions)


def _touch(old: Place, new: Place) -> bool:
    return old[0] == new[0] and new[1] <= old[2] + 1 and old[1] <= new[2] + 1


def excerpts(pair: Pair, sources: dict[str, dict[str, str]]) -> list[list[dict]]:
    """Return the code of every region, for two columns: [{"file", "first", "text", "cut"}, the same of the other]."""
    return [
        [_excerpt(sources[student][place[0]], place) for student, place in zip((pair.first, pair.second), region)]
        for region in pair.regions
    ]


def _excerpt(text: str, place: Place) -> dict:
    name, first, last = place
    lines = text.split("\n")[first - 1 : last]  # as tokenize counts lines
    shown = "\n".join(line.rstrip("\r") for line in lines[:MAX_LINES])
    return {"file": name, "first": first, "text": shown, "cut": max(0, len(lines) - MAX_LINES)}
