"""A head that is known again is the head that reading it anew would give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.http.errors import BadRequestError
from pointsman.http.head import RequestHead, parse_head
from pointsman.http.head_memory import HeadMemory

LIMITS = object()
PLAIN = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\nauthorization: Bearer k\r\n\r\n"


def remembering(raw: bytes) -> HeadMemory:
    memory = HeadMemory()
    memory.remember(raw, parse_head(raw), LIMITS)
    return memory


def read(data: bytes) -> RequestHead | None:
    end = data.find(b"\r\n\r\n")
    try:
        return parse_head(data[: end + 4]) if end >= 0 else None
    except BadRequestError:
        return None


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN,
        PLAIN.replace(b"content-length: ", b"Content-Length:\t "),
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_the_same_head_is_known_and_shares_its_headers(raw: bytes) -> None:
    memory = remembering(raw)
    first = memory.match(raw + b"body", LIMITS)
    assert first is not None
    assert first == parse_head(raw)
    again = memory.match(raw, LIMITS)
    assert again is not None
    assert again.headers is first.headers


@pytest.mark.parametrize("digits", [b"0", b"7", b"0012", b"999999999999999"])
def test_another_length_is_known_and_shares_the_headers(digits: bytes) -> None:
    memory = remembering(PLAIN)
    raw = PLAIN.replace(b"12", digits)
    known, before = memory.match(raw + b"body", LIMITS), memory.match(PLAIN, LIMITS)
    assert known is not None
    assert before is not None
    assert known == parse_head(raw)
    assert known.headers is before.headers


@pytest.mark.parametrize(
    ("why", "data"),
    [
        ("nothing there", b""),
        ("cut short", PLAIN[:-1]),
        ("a sign", PLAIN.replace(b"12", b"+12")),
        ("a list", PLAIN.replace(b"12", b"12, 12")),
        ("no digits", PLAIN.replace(b"12", b"")),
        ("too many digits", PLAIN.replace(b"12", b"1" * 16)),
        ("digits of another script", PLAIN.replace(b"12", "١٢".encode())),
        ("space after the digits", PLAIN.replace(b"12", b"12 ")),
        ("bare LF", PLAIN.replace(b"12\r\n", b"12\n")),
        ("CR inside", PLAIN.replace(b"12\r\n", b"12\rx\r\n")),
        ("another header", PLAIN.replace(b"host: a", b"host: b")),
        ("a header more", PLAIN[:-2] + b"content-length: 12\r\n\r\n"),
        ("another method", PLAIN.replace(b"POST", b"PUT")),
    ],
)
def test_anything_else_is_not_known(why: str, data: bytes) -> None:
    assert remembering(PLAIN).match(data, LIMITS) is None, why


def test_other_limits_make_it_forget() -> None:
    assert remembering(PLAIN).match(PLAIN, object()) is None
    assert HeadMemory().match(PLAIN, None) is None


NOISE = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"0",
        b"9",
        b"12",
        b":",
        b",",
        b"\0",
        b"content-length: 3\r\n",
        b"x",
        b"chunked",
    ]
)


@given(st.data())
def test_what_is_known_equals_what_is_read(data: st.DataObject) -> None:
    memory = remembering(PLAIN)
    changed = PLAIN
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(len(changed), start + 3)))
        changed = changed[:start] + data.draw(NOISE) + changed[end:]
    known = memory.match(changed, LIMITS)
    if known is not None:
        assert known == read(changed)
