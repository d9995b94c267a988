"""Prompts measured and recognised without a tokenizer."""

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.prompts import Endpoint, Prompt, PromptReader
from pointsman.router.refusals import BadRequestError

BLOCK = 64


def reader(key: bytes = b"k" * 32) -> PromptReader:
    return PromptReader(key, BLOCK, 0.25, lambda model, error: None)


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def read_chat(body: dict[str, Any], tenant: str = "", model: str = "m", key: bytes = b"k" * 32) -> Prompt:
    return reader(key).read(Endpoint.CHAT, body, tenant, model)


def shared(one: Prompt, other: Prompt) -> int:
    """Blocks in common from the start."""
    pairs = zip(one.block_hashes, other.block_hashes, strict=False)
    return next(
        (i for i, (a, b) in enumerate(pairs) if a != b), min(len(one.block_hashes), len(other.block_hashes))
    )


LONG = "The quick brown fox jumps over the lazy dog. " * 20


def test_equal_prefixes_share_blocks() -> None:
    system = {"role": "system", "content": LONG}
    one = read_chat(chat(system, user("What is a train?")))
    other = read_chat(chat(system, user("And a ferry?")))
    longer = read_chat(chat(system, user("What is a train?"), {"role": "assistant", "content": LONG}))
    assert shared(one, other) == len(LONG) // BLOCK
    assert shared(one, longer) == len(one.block_hashes)
    assert one.block_hashes[-1] != one.block_hashes[0]


def test_a_change_at_the_start_changes_every_block() -> None:
    assert shared(read_chat(chat(user(LONG))), read_chat(chat(user("x" + LONG)))) == 0


SAME = {
    "text and one part": (user(LONG), user([{"type": "text", "text": LONG}])),
    "null and absent content": (
        {"role": "assistant", "content": None, "x": LONG},
        {"role": "assistant", "x": LONG},
    ),
    "fields that say nothing": (user(LONG), user(LONG) | {"name": None, "tool_calls": []}),
    "parts and lines": (
        user("a\n" + LONG),
        user([{"type": "text", "text": "a"}, {"type": "text", "text": LONG}]),
    ),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_equal_prompts_in_other_words(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert read_chat(chat(one)) == read_chat(chat(other))


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another model": ({"model": "a"}, {"model": "b"}),
    "another tenant": ({"tenant": "a"}, {"tenant": "b"}),
    "another installation": ({"key": b"a"}, {"key": b"b"}),
    "another salt": ({"body": chat(user(LONG), cache_salt="a")}, {"body": chat(user(LONG), cache_salt="b")}),
    "salt and none": ({"body": chat(user(LONG), cache_salt="a")}, {}),
    "another role": ({"body": chat({"role": "system", "content": LONG})}, {}),
    "tools": ({"body": chat(user(LONG), tools=[{"type": "function", "function": {"name": "f"}}])}, {}),
    "another name": (
        {"body": chat(user("hi") | {"name": "ann"}, user(LONG))},
        {"body": chat(user("hi") | {"name": "bob"}, user(LONG))},
    ),
    "another image": (
        {"body": chat(user([IMAGE, {"type": "text", "text": LONG}]))},
        {"body": chat(user([{**IMAGE, "image_url": {"url": "data:image/png;base64,BBBB"}}, {"text": LONG}]))},
    ),
    "two messages and one that imitates them": (
        {"body": chat(user("a"), user(LONG))},
        {"body": chat(user("a\xff" + "user\xfe" + LONG))},
    ),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_must_not_share_blocks_does_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    default = {"body": chat(user(LONG))}
    last_one, last_other = (read_chat(**(default | case)).block_hashes[-1] for case in (one, other))
    assert last_one != last_other


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.lists(TEXT, min_size=1, max_size=5), st.lists(TEXT, max_size=3))
def test_a_conversation_that_goes_on_keeps_its_blocks(said: list[str], more: list[str]) -> None:
    before = read_chat(chat(*map(user, said)))
    after = read_chat(chat(*map(user, said + more)))
    assert list(after.block_hashes[: len(before.block_hashes)]) == list(before.block_hashes)
    assert all(0 <= h < 2**64 for h in after.block_hashes)
    assert after.estimated_tokens >= before.estimated_tokens >= 1


def test_completions_take_text_ids_and_lists_of_either() -> None:
    read = reader().read
    text = read(Endpoint.COMPLETIONS, {"prompt": LONG}, "", "m")
    assert text == read(Endpoint.COMPLETIONS, {"prompt": [LONG]}, "", "m")
    assert text.estimated_tokens == len(LONG) // 4
    assert len(text.block_hashes) == len(LONG) // BLOCK
    ids = read(Endpoint.COMPLETIONS, {"prompt": list(range(100))}, "", "m")
    assert (ids.estimated_tokens, ids.block_tokens, len(ids.block_hashes)) == (100, 16, 6)
    several = read(Endpoint.COMPLETIONS, {"prompt": [list(range(100)), [1, 2]]}, "", "m")
    assert several.estimated_tokens == 102
    assert several.block_hashes == ids.block_hashes
    assert read(Endpoint.EMBEDDINGS, {"input": [LONG, LONG]}, "", "m").estimated_tokens == len(LONG) // 2
    assert array("I").itemsize == 4


def test_how_long_a_prompt_surely_is() -> None:
    read = reader().read
    assert read(Endpoint.COMPLETIONS, {"prompt": [list(range(100)), [1]]}, "", "m").least_tokens == 100
    assert read(Endpoint.COMPLETIONS, {"prompt": LONG}, "", "m").least_tokens == len(LONG) // 32
    assert read(Endpoint.CHAT, chat(user([IMAGE])), "", "m").least_tokens <= 2


WRONG: dict[str, tuple[Endpoint, dict[str, Any], str]] = {
    "no messages": (Endpoint.CHAT, {}, "messages: must be a list, not null"),
    "messages are text": (Endpoint.CHAT, {"messages": "hi"}, "messages: must be a list, not text"),
    "empty": (Endpoint.CHAT, {"messages": []}, "messages: must hold at least one message"),
    "a message is text": (Endpoint.CHAT, chat("hi"), "messages[0]: must be an object, not text"),
    "no role": (
        Endpoint.CHAT,
        chat(user("a"), {"content": "hi"}),
        "messages[1].role: must be text, not null",
    ),
    "a list as role": (
        Endpoint.CHAT,
        chat({"role": [], "content": ""}),
        "messages[0].role: must be text, not a list",
    ),
    "a number as content": (
        Endpoint.CHAT,
        chat(user(3)),
        "messages[0].content: must be text or a list of parts, not a number",
    ),
    "a number as part": (
        Endpoint.CHAT,
        chat(user([3])),
        "messages[0].content[0]: must be an object, not a number",
    ),
    "a number as text": (
        Endpoint.CHAT,
        chat(user([{"type": "text", "text": 3}])),
        "messages[0].content[0].text: must be text, not a number",
    ),
    "a salt of another type": (
        Endpoint.CHAT,
        chat(user("a"), cache_salt=1),
        "cache_salt: must be text, not a number",
    ),
    "no prompt": (Endpoint.COMPLETIONS, {}, "prompt: must be text, a list of token ids, or a list of either"),
    "an empty list": (Endpoint.COMPLETIONS, {"prompt": []}, "a list of either that is not empty"),
    "a negative id": (Endpoint.COMPLETIONS, {"prompt": [1, -1]}, "prompt[1]: must be a token id"),
    "a huge id": (Endpoint.COMPLETIONS, {"prompt": [1, 2**32]}, "prompt[1]: must be a token id"),
    "a fraction": (Endpoint.COMPLETIONS, {"prompt": [1, 2, 0.5]}, "prompt[2]: must be a token id"),
    "text among ids": (
        Endpoint.COMPLETIONS,
        {"prompt": [[1], "a"]},
        "prompt[1]: must be a list of token ids",
    ),
    "ids among texts": (Endpoint.COMPLETIONS, {"prompt": ["a", 1]}, "prompt[1]: must be text like the first"),
    "an object": (
        Endpoint.COMPLETIONS,
        {"prompt": [{}]},
        "prompt[0]: must be text or token ids, not an object",
    ),
    "no input": (Endpoint.EMBEDDINGS, {"input": True}, "not a boolean"),
}


@pytest.mark.parametrize(("endpoint", "body", "message"), WRONG.values(), ids=WRONG)
def test_wrong_types_are_refused_with_their_place(
    endpoint: Endpoint, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        reader().read(endpoint, body, "", "m")
    assert message in str(caught.value)


REMOTE: dict[str, tuple[Any, bool]] = {
    "data": (IMAGE, False),
    "data in capitals": ({"type": "image_url", "image_url": {"url": " DATA:image/png;base64,AA"}}, False),
    "http": ({"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}, True),
    "https in capitals after a space": ({"type": "image_url", "image_url": {"url": " HTTPS://x/"}}, True),
    "a file": ({"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}, True),
    "without a scheme": ({"type": "audio_url", "audio_url": {"url": "//x/y"}}, True),
    "as a string": ({"type": "image_url", "image_url": "http://x/"}, True),
    "without a type": ({"image_url": {"url": "http://x/"}}, True),
    "in a field we have never heard of": ({"type": "hologram", "hologram": {"source": "ftp://x/"}}, True),
    "inline sound": ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, False),
    "a link in text": ({"type": "text", "text": "see http://x/"}, False),
}


@pytest.mark.parametrize(("part", "remote"), REMOTE.values(), ids=REMOTE)
def test_urls_that_engines_would_fetch_are_seen(part: dict[str, Any], remote: bool) -> None:  # noqa: FBT001 - a table's column
    assert read_chat(chat(user([part]))).has_remote_media is remote


def test_answers_teach_the_estimate() -> None:
    errors: list[tuple[str, float]] = []
    prompts = PromptReader(b"", BLOCK, 0.25, lambda model, error: errors.append((model, error)))
    for _ in range(200):
        prompt = prompts.read(Endpoint.CHAT, chat(user(LONG)), "", "m")
        prompts.learn("m", prompt.prompt_bytes, 450)
    assert abs(prompts.read(Endpoint.CHAT, chat(user(LONG)), "", "m").estimated_tokens - 450) < 20
    assert prompts.tokens_per_byte("another") == 0.25
    assert abs(errors[0][1]) > abs(errors[-1][1])


def test_an_image_teaches_nothing() -> None:
    assert read_chat(chat(user([IMAGE]))).prompt_bytes == 0


def test_salts_that_clients_make_up_are_not_hoarded() -> None:
    prompts = reader()
    for salt in range(10_000):
        prompts.read(Endpoint.CHAT, chat(user("a"), cache_salt=f"{salt}"), "", "m")
    prompts.read(Endpoint.CHAT, chat(user("a"), cache_salt="x" * 1_000_000), "", "m")
    kept = prompts._seeds
    assert len(kept) <= 4096
    assert max(len(salt) for _, _, salt in kept) < 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "tool"]) | JSON,
        "content": TEXT
        | st.lists(st.dictionaries(st.sampled_from(["type", "text", "image_url"]), JSON))
        | JSON,
        "tool_calls": JSON,
    },
)


@given(
    st.sampled_from(Endpoint),
    st.fixed_dictionaries(
        {},
        optional={
            "messages": st.lists(MESSAGE, max_size=4) | JSON,
            "prompt": st.lists(st.integers()) | st.lists(st.lists(st.integers())) | JSON,
            "input": JSON,
            "tools": JSON,
            "cache_salt": JSON,
        },
    ),
)
def test_any_body_is_measured_or_refused(endpoint: Endpoint, body: dict[str, Any]) -> None:
    try:
        prompt = reader().read(endpoint, body, "", "m")
    except BadRequestError as error:
        assert str(error)  # noqa: PT017 - either is right
    else:
        assert prompt.estimated_tokens >= 1
        assert prompt.prompt_bytes >= 0
