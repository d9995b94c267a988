import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.simengine import tokenizer


@given(st.text())
def test_text_survives_the_round_trip(text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.encode(errors="replace").decode()


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_four_ascii_characters_are_one_token(text: str) -> None:
    assert len(tokenizer.encode(text)) == -(-len(text) // 4)


@given(st.text(), st.text())
def test_a_prefix_of_whole_groups_is_a_prefix_of_tokens(start: str, rest: str) -> None:
    start = "".join(character for character in start if character.isascii())
    start = start[: len(start) // 4 * 4]
    tokens = tokenizer.encode(start + rest)
    assert tokens[: len(start) // 4] == tokenizer.encode(start)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        pytest.param(0x41, "A", id="a single byte"),
        pytest.param(tokenizer.END, "<|end|>", id="a special token by its name"),
        pytest.param(tokenizer.group_id(b" bal"), " bal", id="a group"),
        pytest.param(600, "\N{REPLACEMENT CHARACTER}", id="an id that stands for nothing"),
        pytest.param(tokenizer.VOCAB_SIZE - 1, "\x7f\x7f\x7f\x7f", id="the last id"),
    ],
)
def test_token_text(token: int, text: str) -> None:
    assert tokenizer.token_text(token) == text


def test_documented_ids() -> None:
    assert tokenizer.encode("AB").tolist() == [(1 << 14) + (0x41 << 7) + 0x42]
    assert tokenizer.encode("ABCD").tolist() == [(1 << 28) + (0x41 << 21) + (0x42 << 14) + (0x43 << 7) + 0x44]
