"""Event boundaries in streams that are cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.http.sse import EventScanner, EventTooLongError, event_data

LINES = {
    "data": (b'data: {"a":1}\n\n', b'{"a":1}'),
    "no space": (b"data:x\n\n", b"x"),
    "CRLF": (b"data: x\r\n\r\n", b"x"),
    "CR": (b"data: x\r\r", b"x"),
    "two lines": (b"data: x\ndata: y\n\n", b"x\ny"),
    "named": (b"event: token\nid: 3\ndata: x\n\n", b"x"),
    "comment": (b": keep-alive\n\n", None),
    "empty": (b"data\n\n", b""),
    "done": (b"data: [DONE]\n\n", b"[DONE]"),
}


@pytest.mark.parametrize("name", LINES)
def test_data_of_an_event(name: str) -> None:
    event, data = LINES[name]
    assert event_data(event) == data


line = st.text("ab: {}\u00e9", max_size=8).map(lambda text: b"data: " + text.encode())
end = st.sampled_from([b"\n", b"\r\n"])


@given(events=st.lists(st.tuples(line, end, end), max_size=8), cuts=st.lists(st.integers(1, 20), max_size=30))
def test_events_are_the_same_wherever_the_stream_is_cut(
    events: list[tuple[bytes, bytes, bytes]], cuts: list[int]
) -> None:
    whole = [text + one + two for text, one, two in events]
    data = b"".join(whole)
    scanner, got = EventScanner(), []
    for cut in cuts:
        got += scanner.feed(data[:cut])
        data = data[cut:]
    got += scanner.feed(data)
    assert got == whole
    assert scanner.pending == 0


def test_several_events_in_one_read_and_a_rest() -> None:
    scanner = EventScanner()
    assert scanner.feed(b"data: a\n\ndata: b\n\ndata: c") == [b"data: a\n\n", b"data: b\n\n"]
    assert scanner.pending == 7
    assert scanner.feed(b"\n\n") == [b"data: c\n\n"]


def test_an_event_that_ends_with_a_lone_cr_at_the_end_of_the_stream() -> None:
    scanner = EventScanner()
    assert scanner.feed(b"data: a\r\r") == []
    assert scanner.take_rest() == b"data: a\r\r"
    assert scanner.pending == 0


@pytest.mark.parametrize("cut", [1000, 7, 30_000_000])
def test_a_line_without_end_is_an_error_and_bounded(cut: int) -> None:
    scanner = EventScanner(limit=5000)
    for _ in range(5000 // cut):
        assert scanner.feed(b"x" * cut) == []
    with pytest.raises(EventTooLongError):
        scanner.feed(b"x" * cut)


def test_a_whole_event_beyond_the_limit_is_an_error() -> None:
    with pytest.raises(EventTooLongError):
        EventScanner(limit=10).feed(b"data: 0123456789\n\n")
