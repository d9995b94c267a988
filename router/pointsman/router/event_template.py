"""A stream's events known again: most differ from the one before in their text alone.

Parsing an event as JSON takes longer than all else that is done with it. So the first event of a kind is parsed, and cut
around its text: as long as what follows has the same bytes before and after a text that needs no escapes, it parses to
the same but for that text, by the grammar of JSON. An event that differs otherwise (a finish reason, usage, an error,
another choice, escapes in the text) is not known, and parsed.
"""

from typing import Any, Final

import orjson

TEXT_BYTES_PER_TOKEN = 4
"""A first guess for events that do not count their tokens; the usage at the end is exact."""
GIVE_UP = 8
"""Cuts that were never used, one after the other, before a stream is left alone."""
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_COMMA: Final = ord(",")
_ZERO: Final = ord("0")
_NINE: Final = ord("9")
_SPACE: Final = ord(" ")
_TILDE: Final = ord("~")
_IDS = b'"token_ids":['
_PROBE_TEXT = "\u00b7"
_PROBE_IDS = [1, 22]


class EventTemplate:
    """The cut around the text of a stream's last parsed event, and around its token ids where it has them."""

    __slots__ = ("_after", "_before", "_between", "_unused", "tokens")

    def __init__(self) -> None:
        self._before = b""
        self._between = b""
        """What follows the text, up to the token ids or the event's end."""
        self._after = b""
        """What follows the token ids; empty: there are none."""
        self._unused = 0
        self.tokens = 0
        """Of the events that the last `known` found."""

    def known(self, data: bytes) -> int:
        """How many bytes at the beginning of `data` are whole events that are known."""
        self.tokens = 0
        before = self._before
        end = 0
        if before:
            size = len(data)
            while end < size and data.startswith(before, end):
                following = self._end_of_event(data, end + len(before))
                if not following:
                    break
                end = following
            if end:
                self._unused = 0
        return end

    def _end_of_event(self, data: bytes, start: int) -> int:
        """Where the event whose text begins at `start` ends, its tokens counted; 0: it is not known."""
        size, at = len(data), start
        ascii_only = True
        while at < size:
            byte = data[at]
            if byte == _QUOTE:
                break
            if byte < _SPACE or byte == _BACKSLASH:
                return 0
            if byte > _TILDE:
                ascii_only = False
            at += 1
        if at == start or not data.startswith(self._between, at):
            return 0
        if not ascii_only and not _is_utf8(data[start:at]):
            return 0
        text_bytes = at - start
        at += len(self._between)
        if not self._after:
            self.tokens += text_bytes // TEXT_BYTES_PER_TOKEN or 1
            return at
        ids = 1
        digits = False
        while at < size:
            byte = data[at]
            if byte == _COMMA and digits:
                ids += 1
                digits = False
            elif _ZERO <= byte <= _NINE:
                digits = True
            else:
                break
            at += 1
        if not digits or not data.startswith(self._after, at):
            return 0
        self.tokens += ids
        return at + len(self._after)

    def learn(self, event: bytes, parsed: dict[str, Any], choice: dict[str, Any]) -> None:
        """Cut an event around the text of its only choice.

        Whatever was cut is what it is taken for, if the event with another text, and other token ids, parses to the same
        but for these.
        """
        self._before = b""
        holder, field = _text_of(choice)
        has_ids = bool(choice.get("token_ids"))
        if self._unused >= GIVE_UP or not field or event.find(b"\n") != len(event) - 2:
            return
        self._unused += 1
        opening = b'"%b":"' % field.encode()
        start = event.find(opening) + len(opening)
        end = event.find(b'"', start)
        before, between, after = event[:start], event[end:], b""
        probe = before + _PROBE_TEXT.encode() + between
        if has_ids:
            ids = between.find(_IDS) + len(_IDS)
            between, after = between[:ids], between[between.find(b"]", ids) :]
            probe = before + _PROBE_TEXT.encode() + between + orjson.dumps(_PROBE_IDS)[1:-1] + after
            choice["token_ids"] = _PROBE_IDS
        holder[field] = _PROBE_TEXT
        if probe.startswith(b"data: {") and _parses_to(probe[6:], parsed):
            self._before, self._between, self._after = before, between, after


def _text_of(choice: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Where a choice's only text is: the object that holds it, and its name there; empty: it has none, or several."""
    delta = choice.get("delta")
    holder = choice if delta is None else delta
    texts = [name for name in ("content", "reasoning_content", "text") if holder.get(name)]
    return holder, texts[0] if len(texts) == 1 and type(holder[texts[0]]) is str else ""


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parses_to(data: bytes, expected: dict[str, Any]) -> bool:
    try:
        return bool(orjson.loads(data) == expected)
    except orjson.JSONDecodeError:
        return False
