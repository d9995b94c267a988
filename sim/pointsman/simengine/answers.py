"""One answer: how long it gets, why it ends, and what of it has been passed on.

The engine loop wants to know a request's length before it runs. So where an answer may end by itself (an end token, a
stop string, a stop token) it is generated ahead, at half a microsecond a token; else tokens come as they are needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pointsman.simengine import tokenizer
from pointsman.simengine.sequence import EndRule, TokenSequence

_AHEAD = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    own_tokens: int | None = None
    """The length at which it ends by itself (`pointsman_output_tokens`). None: by chance."""
    mean_tokens: float = 256.0
    """Mean length of answers that end by chance."""
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False

    def end_rule(self) -> EndRule:
        if self.ignore_eos:
            return EndRule.never()
        if self.own_tokens is not None:
            return EndRule(mean_tokens=0, at=max(self.own_tokens, self.min_tokens + 1) - 1)
        return EndRule(mean_tokens=self.mean_tokens, first=self.min_tokens)


class Ending(NamedTuple):
    """How an answer ends: tokens, the reason, what stopped it, and the length its text is cut to (None: uncut)."""

    tokens: int
    reason: str
    stopped_by: int | str | None = None
    characters: int | None = None


class Delta(NamedTuple):
    """What is new since the last look."""

    token_ids: list[int]
    text: str
    finished: bool


def find_ending(sequence: TokenSequence, limits: Limits) -> Ending:
    """Where the answer to a prompt ends. Every end is looked for in the order of the tokens, as vLLM does: after
    each token first end and stop tokens, then stop strings.
    """
    at = limits.end_rule().at
    if limits.ignore_eos and not limits.stop and not limits.stop_token_ids:
        return Ending(limits.max_tokens, "length")
    if limits.own_tokens is not None and not limits.stop and not limits.stop_token_ids:
        return Ending(at + 1, "stop") if at < limits.max_tokens else Ending(limits.max_tokens, "length")
    text = ""
    longest = max(map(len, limits.stop), default=0)
    for position, token in enumerate(_ahead(sequence, limits.max_tokens)):
        if token == tokenizer.END:
            return Ending(position + 1, "stop")
        if not limits.stop and not limits.stop_token_ids:
            continue
        piece = tokenizer.token_text(token)
        if position >= limits.min_tokens and token in limits.stop_token_ids:
            return Ending(position + 1, "stop", token, len(text) + (len(piece) if limits.include_stop else 0))
        text += piece
        since = len(text) - len(piece) - longest
        if position >= limits.min_tokens and (found := _first_stop(text, since, limits.stop)):
            stop, start = found
            return Ending(position + 1, "stop", stop, start + len(stop) if limits.include_stop else start)
    return Ending(limits.max_tokens, "length")


def _ahead(sequence: TokenSequence, count: int) -> Iterator[int]:
    for start in range(0, count, _AHEAD):
        yield from sequence.generated(start, min(start + _AHEAD, count))


def _first_stop(text: str, since: int, stops: Sequence[str]) -> tuple[str, int] | None:
    """The first of the given strings that the text contains, in their order."""
    for stop in stops:
        if (at := text.find(stop, max(since, 0))) >= 0:
            return stop, at
    return None


class Answer:
    """One choice of one prompt: an iterator over its deltas, driven by the engine loop's token counts."""

    __slots__ = ("_held_back", "_sent_characters", "_text", "ending", "index", "sequence", "taken")

    def __init__(self, index: int, sequence: TokenSequence, limits: Limits) -> None:
        self.index = index
        self.sequence = sequence
        self.ending = find_ending(sequence, limits)
        self.taken = 0
        # With stop strings to leave out, so many characters wait for whether they are the start of one.
        self._held_back = max(map(len, limits.stop)) - 1 if limits.stop and not limits.include_stop else 0
        self._text = ""
        self._sent_characters = 0

    def take(self, up_to: int) -> Delta:
        """Pass on the tokens up to a count."""
        ids = self.sequence.generated(self.taken, up_to)
        self.taken = up_to
        finished = up_to >= self.ending.tokens
        fresh = "".join(map(text_of, ids))
        if not self._held_back and self.ending.characters is None:
            return Delta(ids, fresh, finished)
        self._text += fresh
        end = len(self._text) if finished else max(len(self._text) - self._held_back, 0)
        if self.ending.characters is not None:
            end = min(end, self.ending.characters)
        start, self._sent_characters = self._sent_characters, max(end, self._sent_characters)
        return Delta(ids, self._text[start:end], finished)

    def cut_short(self, reason: str) -> None:
        """End where it is."""
        self.ending = Ending(self.taken, reason)


@lru_cache(maxsize=4096)
def text_of(token: int) -> str:
    """What a generated token adds to the text: special tokens add nothing."""
    return "" if token in tokenizer.SPECIAL_TEXT else tokenizer.token_text(token)
