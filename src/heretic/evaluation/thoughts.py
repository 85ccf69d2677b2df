"""Chains of thought in texts: whether one is open, and what ends it, by the marks that models put around them."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

MARKER = re.compile(r"<[|｜]?[/\w][^<>\n]{0,40}>|◁[^◁▷\n]{1,40}▷|\[/?[A-Z][A-Z_ ]{2,40}\]")
"""A tag or special token: <think>, <|END_THINKING|>, <|channel>, [BEGIN FINAL RESPONSE]."""
BETWEEN = re.compile(r"\s*(?:[\w=:.-]+(?: [\w=:.-]+)?)?\s*")
"""The text that may occur between the markers of one heading: the name of a role or channel."""
WORD = r"\w*(?:think|thought|reason|analysis|reflect|ponder|deliberat|scratchpad)\w*"
NAMED = re.compile(rf"(?P<first>{MARKER.pattern})\s*{WORD}\s*(?P<last>{MARKER.pattern})?\Z", re.IGNORECASE)
ANNOUNCED = re.compile(rf"{WORD}[ \w]*:\Z", re.IGNORECASE)
"""Here are my reasoning steps:"""
ENDING = re.compile(rf"(?:\s*(?:{MARKER.pattern}))+\s*\Z")
ROLES = re.compile(
    r"assistant|model|bot|gpt|ai|user|system|human|inst|im|turn|role|header|message|content|text", re.IGNORECASE
)
"""Names in markers that open a turn or its text, not a thought."""
NAME = r"(?P<name>[^\W\d]+(?:[:-][^\W\d]+)?)"
MIRRORS = tuple(
    (re.compile(opener, re.IGNORECASE), closer)
    for opener, closer in (
        (rf"<{NAME}>", r"</\g<name>>"),
        (rf"\[{NAME}\]", r"[/\g<name>]"),
        (rf"◁{NAME}▷", r"◁/\g<name>▷"),
        (rf"<\|{NAME}>", r"<\g<name>|>"),
        (rf"<([|｜])(?:begin|start)((?:[_▁]of)?)([_▁]){NAME}\1>", r"<\1end\2\3\g<name>\1>"),
        (rf"<([|｜]){NAME}([_▁])(?:begin|start)\1>", r"<\1\g<name>\3end\1>"),
    )
)
"""Markers that open something, and the marker that closes it."""
CLOSED = re.compile(r"/|end|close|\A<\w+\|>\Z", re.IGNORECASE)


def ends_in_thought(text: str) -> bool:
    """Whether a prompt ends in what opens a chain of thought: a marker or a heading with such a word."""
    tail = text.rstrip()[-120:]
    last = next((match for match in MARKER.finditer(tail) if match.end() == len(tail)), None)
    if last is not None and re.search(WORD, last[0], re.IGNORECASE):
        return CLOSED.search(last[0]) is None
    named = NAMED.search(tail)
    if named is not None:
        return not any(CLOSED.search(marker) for marker in (named["first"], named["last"] or ""))
    return ANNOUNCED.search(tail) is not None


def closing_marker(text: str) -> str:
    """The marker that would close the one with which a prompt ends: </zorp> for <zorp>; "" where that opens nothing."""
    tail = text.rstrip()[-120:]
    last = next((match[0] for match in MARKER.finditer(tail) if match.end() == len(tail)), "")
    for opener, closer in MIRRORS:
        match = opener.fullmatch(last)
        if match is not None and not ROLES.fullmatch(match["name"]):
            # A marker in capitals is closed in capitals.
            closing = match.expand(closer)
            return closing.upper() if last.isupper() else closing
    return ""


def last_marker(text: str) -> int:
    """Where the last marker of the text ends; 0 where it has none."""
    return max((match.end() for match in MARKER.finditer(text)), default=0)


def find_separator(responses: Sequence[str]) -> str:
    """The text between thought and answer in these responses: the last run of markers that half of them share and
    continue after; "" if there is none."""
    runs = [[run for run, rest in _runs(response) if MARKER.sub("", rest).strip()] for response in responses]
    counts = Counter(run for each in runs for run in set(each))
    shared = {run for run, count in counts.items() if count >= 2 and 2 * count >= len(responses)}
    lasts = Counter(next(run for run in reversed(each) if run in shared) for each in runs if shared & set(each))
    return lasts.most_common(1)[0][0] if lasts else ""


def _runs(text: str) -> Iterator[tuple[str, str]]:
    """Each run of markers, with only names between them, and the text after it; end-of-text markers are left out."""
    text = ENDING.sub("", text)
    begin = end = None
    for match in MARKER.finditer(text):
        if end is not None and BETWEEN.fullmatch(text, end, match.start()) is None:
            yield text[begin:end], text[end:]
            begin = None
        begin = match.start() if begin is None else begin
        end = match.end()
    if end is not None:
        yield text[begin:end], text[end:]
