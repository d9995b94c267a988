"""Request heads: what is refused, and that llhttp reads what is accepted in the same way."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.http.body import ChunkedBody
from pointsman.http.errors import BadRequestError
from pointsman.http.head import RequestHead, parse_head

LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: a\r\n"


def head(*lines: bytes) -> bytes:
    return LINE + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


ACCEPTED = {
    "length": (head(b"Content-Length: 12"), 12, False),
    "no body": (head(), 0, False),
    "zero": (head(b"content-length:0"), 0, False),
    "chunked": (head(b"Transfer-Encoding: chunked"), 0, True),
    "chunked, any case": (head(b"TRANSFER-ENCODING: Chunked"), 0, True),
    "blanks around a value": (head(b"Content-Length: \t 7 \t"), 7, False),
    "empty value": (head(b"X:"), 0, False),
    "obs-text": (head(b"X: caf\xe9"), 0, False),
    "repeated": (head(b"X: a", b"x: b"), 0, False),
    "connection": (head(b"Connection: close"), 0, False),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    raw, length, chunked = ACCEPTED[name]
    parsed = parse_head(raw)
    assert (parsed.content_length, parsed.chunked) == (length, chunked)
    assert (parsed.method, parsed.path) == (b"POST", b"/v1/chat/completions")


REFUSED = {
    "two lengths": (head(b"Content-Length: 1", b"Content-Length: 2"), 400),
    "the same length twice": (head(b"Content-Length: 1", b"Content-Length: 1"), 400),
    "list of lengths": (head(b"Content-Length: 1, 1"), 400),
    "signed length": (head(b"Content-Length: +1"), 400),
    "negative length": (head(b"Content-Length: -1"), 400),
    "hex length": (head(b"Content-Length: 0x10"), 400),
    "empty length": (head(b"Content-Length:"), 400),
    "absurd length": (head(b"Content-Length: 99999999999999999999"), 400),
    "length and chunks": (head(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
    "chunks and length": (head(b"Transfer-Encoding: chunked", b"Content-Length: 1"), 400),
    "xchunked": (head(b"Transfer-Encoding: xchunked"), 501),
    "gzip, chunked": (head(b"Transfer-Encoding: gzip, chunked"), 501),
    "chunked, identity": (head(b"Transfer-Encoding: chunked, identity"), 501),
    "chunked twice": (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "chunked in quotes": (head(b'Transfer-Encoding: "chunked"'), 501),
    "chunked with vertical tab": (head(b"Transfer-Encoding: \x0bchunked"), 400),
    "obs-fold": (head(b"X: a\r\n b"), 400),
    "obs-fold with tab": (head(b"X: a\r\n\tb"), 400),
    "folded length": (head(b"Content-Length:\r\n 1"), 400),
    "bare LF": (LINE + b"Host: a\nContent-Length: 1\r\n\r\n", 400),
    "bare CR": (head(b"X: a\rContent-Length: 1"), 400),
    "space before a colon": (head(b"Content-Length : 1"), 400),
    "tab before a colon": (head(b"Transfer-Encoding\t: chunked"), 400),
    "space before a name": (LINE + b" Host: a\r\n\r\n", 400),
    "empty name": (head(b": a"), 400),
    "no colon": (head(b"Content-Length 1"), 400),
    "NUL in a value": (head(b"X: a\x00b"), 400),
    "NUL in a name": (head(b"X\x00: a"), 400),
    "DEL in a value": (head(b"X: a\x7f"), 400),
    "no host": (LINE + b"\r\n", 400),
    "two hosts": (head(b"Host: b"), 400),
    "host with a path": (LINE + b"Host: a/b\r\n\r\n", 400),
    "host with a user": (LINE + b"Host: a@b\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 400),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    "lower-case version": (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    "no method": (b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "tab for space": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "target not ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute target": (b"GET http://b/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "another expectation": (head(b"Expect: 200-ok"), 417),
    "two authorizations": (head(b"Authorization: a", b"Authorization: b"), 400),
    "header bomb": (head(*[b"x%d: y" % n for n in range(129)]), 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    raw, status = REFUSED[name]
    with pytest.raises(BadRequestError) as refused:
        parse_head(raw)
    assert refused.value.status == status
    assert str(refused.value)


def test_who_keeps_the_connection() -> None:
    assert parse_head(head()).keep_alive
    assert not parse_head(head(b"Connection: Close")).keep_alive
    assert not parse_head(head(b"Connection: x, close")).keep_alive
    assert not parse_head(b"GET / HTTP/1.0\r\n\r\n").keep_alive
    assert parse_head(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive


class Llhttp:
    """What httptools makes of a head."""

    def __init__(self, raw: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.target = b""
        self.complete = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(raw)
        self.method = self._parser.get_method()
        self.keep_alive = self._parser.should_keep_alive()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


token = st.sampled_from(
    [b"x", b"content-length", b"transfer-encoding", b"host", b"connection", b"Expect", b"x y", b""]
)
value = st.sampled_from(
    [
        b"",
        b"1",
        b"+1",
        b"1,1",
        b"chunked",
        b"Chunked",
        b"a\tb",
        b"a\r\n b",
        b"a\nb",
        b"a\x00",
        b"close",
        b"caf\xe9",
        b"a",
    ]
) | st.binary(max_size=6)
separator = st.sampled_from([b": ", b":", b" : ", b":\t"])
ending = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])
first = st.sampled_from(
    [LINE, LINE, b"GET / HTTP/1.0\r\n", b"GET /\r\n", b"GET  / HTTP/1.1\r\n", b"GET /a b HTTP/1.1\r\n"]
)


@given(first, st.lists(st.tuples(token, separator, value, ending), max_size=5))
def test_what_is_accepted_llhttp_reads_alike(
    line: bytes, parts: list[tuple[bytes, bytes, bytes, bytes]]
) -> None:
    raw = line + HOST + b"".join(b"".join(part) for part in parts) + b"\r\n"
    try:
        ours: RequestHead = parse_head(raw)
    except BadRequestError:
        return
    theirs = Llhttp(raw)
    assert theirs.complete
    assert (theirs.method, theirs.target) == (ours.method, ours.target)
    joined: dict[bytes, bytes] = {}
    for name, text in theirs.headers:
        before = joined[name] + b", " if name in joined else b""
        joined[name] = before + text.strip(b" \t")
    joined.pop(b"content-length", None)  # it is `content_length`
    assert joined == ours.headers


def chunks(data: bytes, sizes: list[int]) -> bytes:
    out, at = b"", 0
    for size in sizes:
        piece = data[at : at + size]
        if piece:
            out += b"%x\r\n%b\r\n" % (len(piece), piece)
        at += size
    rest = data[at:]
    return out + (b"%X;x=y\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\nt: v\r\n\r\n"


@given(
    st.binary(max_size=60), st.lists(st.integers(1, 20), max_size=5), st.lists(st.integers(1, 9), max_size=40)
)
def test_a_chunked_body_is_the_same_wherever_it_is_cut(
    data: bytes, sizes: list[int], cuts: list[int]
) -> None:
    wire = chunks(data, sizes) + b"next"
    body, rest = ChunkedBody(1000), None
    for cut in cuts:
        rest = body.feed(wire[:cut])
        wire = wire[cut:]
        if rest is not None:
            break
    if rest is None:
        rest = body.feed(wire)
        wire = b""
    assert rest is not None
    assert rest + wire == b"next"
    assert body.body == data


BAD_CHUNKS = {
    "no size": b"\r\n",
    "not hex": b"g\r\n",
    "signed": b"+1\r\na\r\n",
    "0x": b"0x1\r\na\r\n",
    "bare LF after the size": b"1\na\r\n0\r\n\r\n",
    "bare LF after the data": b"1\r\na\n0\r\n\r\n",
    "longer than its size": b"1\r\nab\r\n",
    "space before the size": b" 1\r\na\r\n",
    "CR in an extension": b"1;a\rb\r\na\r\n",
    "size beyond 32 bits": b"fffffffff\r\n",
    "obs-fold in a trailer": b"0\r\na: b\r\n c\r\n\r\n",
    "bare LF in a trailer": b"0\r\na: b\n\r\n",
    "trailer without a colon": b"0\r\nab\r\n\r\n",
    "endless extension": b"1;" + b"x" * 5000,
    "single bytes": b"1\r\na\r\n" * 2000,
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks_are_refused(name: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        ChunkedBody(1_000_000).feed(BAD_CHUNKS[name])
    assert refused.value.status == 400


def test_a_chunked_body_is_bounded_before_it_has_come() -> None:
    with pytest.raises(BadRequestError) as refused:
        ChunkedBody(1000).feed(b"3e9\r\n")
    assert refused.value.status == 413


def test_trailers_are_bounded() -> None:
    body = ChunkedBody(10)
    body.feed(b"0\r\n")
    with pytest.raises(BadRequestError) as refused:
        body.feed(b"x: yyyyyyyyyyyyy\r\n" * 2000)
    assert refused.value.status == 431
