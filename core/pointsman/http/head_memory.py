"""Request heads known again: keep-alive clients send the same one with every request, but for the length of its body.

Reading a head strictly costs more than anything else that HTTP asks of us. A head is known here only if it is, byte for
byte, one that `parse_head` accepted, or that one with other digits as the value of its Content-Length: the grammar and
every check of it treat all digits alike. Whatever else differs is read, and refused, as if nothing were known.
"""

from pointsman.http.head import MAX_LENGTH_DIGITS, RequestHead

_LENGTH = b"\r\ncontent-length:"


class HeadMemory:
    """The last head of one connection."""

    __slots__ = ("_after", "_before", "_cut", "_head", "_raw", "_under")

    def __init__(self) -> None:
        self._raw = b""
        self._head: RequestHead | None = None
        self._under: object = None
        self._cut = False
        self._before = b""
        """What comes before the digits of the length; empty: there is no length, or it is not alone on its line."""
        self._after = b""

    def remember(self, raw: bytes, head: RequestHead, under: object) -> None:
        """`parse_head` made `head` of `raw`, under limits that are known again by their identity."""
        self._raw, self._head, self._under, self._cut = raw, head, under, False

    def match(self, data: bytes, under: object) -> RequestHead | None:
        """The head that `data` begins with, if it is known."""
        head = self._head
        if head is None or under is not self._under:
            return None
        if data.startswith(self._raw):
            return head
        if not self._cut:
            self._cut_at_length(head)
        before = self._before
        if not before or not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + MAX_LENGTH_DIGITS + 1)
        if end < 0 or not data.startswith(self._after, end):
            return None
        digits = data[start:end]
        if not digits.isdigit():
            return None
        return head.with_length(int(digits), end + len(self._after))

    def _cut_at_length(self, head: RequestHead) -> None:
        """Only once a head differs: many connections never need it."""
        self._cut, self._before = True, b""
        raw = self._raw
        name = raw.lower().find(_LENGTH)
        if name < 0 or head.chunked:
            return
        start = name + len(_LENGTH)
        while raw[start : start + 1] in (b" ", b"\t"):
            start += 1
        end = raw.find(b"\r", start)
        if raw[start:end].isdigit():
            self._before, self._after = raw[:start], raw[end:]
