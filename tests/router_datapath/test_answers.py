"""What is read of answers: shortcuts see what a whole parse sees."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.answers import AnswerError, TrackedStream, usage_of
from pointsman.router.event_template import EventTemplate

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def parsed_usage(body: bytes) -> tuple[int, int]:
    usage = orjson.loads(body).get("usage")
    if type(usage) is not dict:
        return 0, 0
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    return tuple(count if type(count) is int else 0 for count in counts)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("at the end", b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}'),
        ("with details", b'{"a":1,"usage":{"prompt_tokens":7,"d":{"x":[1]},"completion_tokens":3},"k":null}'),
        ("blanks", b'{"a": 1, "usage": {"prompt_tokens": 7, "completion_tokens": 3}} '),
        ("first", b'{"usage":{"prompt_tokens":7,"completion_tokens":3},"a":[{"b":"}"}]}'),
        ("only nested", b'{"a":{"b":1,"usage":{"prompt_tokens":7}}}'),
        (
            "nested after its own",
            b'{"a":1,"usage":{"prompt_tokens":7},"b":{"c":1,"usage":{"prompt_tokens":9}}}',
        ),
        ("nested before its own", b'{"b":{"c":1,"usage":{"prompt_tokens":9}},"usage":{"prompt_tokens":7}}'),
        ("in a text", b'{"a":"x,\\"usage\\":{\\"prompt_tokens\\":7}"}'),
        ("in a text, and its own", b'{"usage":{"prompt_tokens":7},"a":"x,\\"usage\\":{"}'),
        ("in a list", b'{"a":[1,{"b":2,"usage":{"prompt_tokens":7}}]}'),
        ("twice", b'{"a":1,"usage":{"prompt_tokens":7},"usage":{"prompt_tokens":9}}'),
        ("twice, null at last", b'{"a":1,"usage":{"prompt_tokens":7},"usage":null}'),
        ("null", b'{"a":1,"usage":null}'),
        ("none", b'{"a":1}'),
        ("no numbers", b'{"a":1,"usage":{"prompt_tokens":"7","completion_tokens":true}}'),
    ],
)
def test_usage_is_that_of_the_whole_parse(name: str, body: bytes) -> None:
    assert usage_of(body) == parsed_usage(body), name


def test_what_was_given_up_is_seen_before_usage() -> None:
    with pytest.raises(AnswerError, match="gave the request up"):
        usage_of(b'{"choices":[{"finish_reason":"abort"}],"usage":{"prompt_tokens":7}}')
    said = b'{"choices":[{"finish_reason":"stop","text":"\\"abort\\" "abort"}],"usage":{"prompt_tokens":7}}'
    said = said.replace(b' "abort', b" abort")
    assert usage_of(said) == (7, 0)


@pytest.mark.parametrize("body", [b"", b"[]", b"nothing", b'{"a":1', b'[1,"usage":{}]', b"\xff"])
def test_what_is_no_object_is_an_error(body: bytes) -> None:
    with pytest.raises(AnswerError):
        usage_of(body)


keys = st.sampled_from(["usage", "a", ',"usage":{', '"', "\\", "prompt_tokens", "completion_tokens"])
values = st.recursive(
    st.none() | st.integers(0, 9) | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(keys, values, max_size=5))
def test_usage_of_any_object(body: dict[str, Any]) -> None:
    raw = orjson.dumps(body)
    assert usage_of(raw) == parsed_usage(raw)


def event(parsed: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(parsed) + b"\n\n"


def chunk(
    text: str, ids: list[int] | None = None, finish: str | None = None, **more: object
) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "delta": {"content": text},
        "logprobs": None,
        "finish_reason": finish,
    }
    if ids is not None:
        choice["token_ids"] = ids
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def template_of(parsed: dict[str, Any]) -> EventTemplate:
    template = EventTemplate()
    raw = event(parsed)
    whole = orjson.loads(raw[6:])
    template.learn(raw, whole, whole["choices"][0])
    return template


def test_events_with_another_text_are_known() -> None:
    template = template_of(chunk("one"))
    data = event(chunk(" two")) + event(chunk("z\u00fcg")) + event(chunk("x" * 40))
    assert template.known(data) == len(data)
    assert template.tokens == 1 + 1 + 10


def test_token_ids_are_counted() -> None:
    template = template_of(chunk("one", [5]))
    data = event(chunk(" two", [17, 4, 100000])) + event(chunk("!", [9]))
    assert template.known(data) == len(data)
    assert template.tokens == 4


completion = {"id": "c", "choices": [{"index": 0, "text": "one", "finish_reason": None}], "usage": None}


def test_completions_and_reasoning_are_known_too() -> None:
    raw = event(completion)
    assert template_of(completion).known(raw.replace(b"one", b"two")) == len(raw)
    reasoning = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]}
    assert template_of(reasoning).known(event(reasoning)) == len(event(reasoning))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("finish", event(chunk("two", finish="stop"))),
        ("usage", event(chunk("two", usage=USAGE))),
        ("another choice", event(chunk("two")).replace(b'"index":0', b'"index":1')),
        ("error", b'data: {"error":{"message":"x"}}\n\n'),
        ("done", b"data: [DONE]\n\n"),
        ("no text", event(chunk(""))),
        ("escapes", event(chunk('say "two"\n'))),
        ("broken UTF-8", event(chunk("two")).replace(b"two", b"tw\xff")),
        ("control character", event(chunk("two")).replace(b"two", b"t\no")),
        ("cut short", event(chunk("two"))[:-1]),
        ("token ids", event(chunk("two", [1]))),
    ],
)
def test_what_differs_otherwise_is_not_known(name: str, data: bytes) -> None:
    assert template_of(chunk("one")).known(data) == 0, name
    assert template_of(chunk("one")).known(event(chunk("two")) + data) == len(event(chunk("two"))), name


@pytest.mark.parametrize("ids", [b"[]", b"[1,]", b"[,1]", b'["1"]', b"[1.5]", b"[-1]", b"[1", b"[1]]"])
def test_token_ids_of_another_form_are_not_known(ids: bytes) -> None:
    template = template_of(chunk("one", [5]))
    assert template.known(event(chunk("two", [5])).replace(b"[5]", ids)) == 0


def test_a_text_that_stands_elsewhere_is_not_taken_for_the_text() -> None:
    """The first thing in the event that looks like the text is not the one that counts."""
    odd = {"choices": [{"content": "one", "delta": {"content": "two"}, "finish_reason": None}]}
    template = template_of(odd)
    assert template.known(event(odd)) == 0


class Plain(TrackedStream):
    """Parses every event."""

    def feed(self, data: bytes) -> bytes:
        return self._read(data)


texts = st.text('ab \u00e9\u4e2d"\\\n', max_size=12)
events = st.one_of(
    st.builds(chunk, texts),
    st.builds(chunk, texts, st.lists(st.integers(0, 2**31), max_size=3)),
    st.builds(chunk, texts, finish=st.just("stop")),
    st.builds(chunk, texts, usage=st.sampled_from([None, USAGE])),
    st.builds(lambda text: {**completion, "choices": [{"index": 0, "text": text}]}, texts),
    st.just({"choices": [], "usage": USAGE}),
)


@given(
    parsed=st.lists(events, max_size=12),
    cuts=st.lists(st.integers(1, 400), max_size=20),
    keep_usage=st.booleans(),
    spaced=st.booleans(),
)
def test_a_stream_is_the_same_with_and_without_what_is_known(
    *, parsed: list[dict[str, Any]], cuts: list[int], keep_usage: bool, spaced: bool
) -> None:
    dumped = [json.dumps(each).encode() if spaced else orjson.dumps(each) for each in parsed]
    data = b"".join(b"data: " + each + b"\n\n" for each in dumped)
    ours, plain = TrackedStream(keep_usage=keep_usage), Plain(keep_usage=keep_usage)
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        assert ours.feed(piece) == plain.feed(piece)
        assert ours.output_tokens == plain.output_tokens
    assert ours.counted_tokens == plain.counted_tokens
    assert ours.prompt_tokens == plain.prompt_tokens
