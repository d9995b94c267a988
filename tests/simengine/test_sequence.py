from hypothesis import given
from hypothesis import strategies as st

from pointsman.simengine import tokenizer
from pointsman.simengine.sequence import EndRule, TokenSequence, root_state

ROOT = root_state("model", 0)
prompts = st.lists(st.integers(min_value=0, max_value=tokenizer.VOCAB_SIZE - 1), min_size=1, max_size=80)


@given(prompts, st.integers(min_value=0, max_value=70), st.integers(min_value=1, max_value=70))
def test_a_continuation_from_token_ids_is_exact(prompt: list[int], so_far: int, more: int) -> None:
    rule = EndRule(mean_tokens=40)
    whole = TokenSequence(ROOT, prompt, rule)
    first = whole.generated(0, so_far)
    continued = TokenSequence(ROOT, prompt + first, rule)
    assert continued.generated(0, more) == whole.generated(so_far, so_far + more)


@given(prompts)
def test_growing_in_steps_is_growing_at_once(prompt: list[int]) -> None:
    stepped, leapt = (TokenSequence(ROOT, prompt, EndRule.never()) for _ in range(2))
    assert [stepped.generated(at, at + 1)[0] for at in range(40)] == leapt.generated(0, 40)


@given(prompts, st.integers(min_value=0))
def test_the_state_covers_everything_before_it(prompt: list[int], where: int) -> None:
    changed = list(prompt)
    changed[where % len(prompt)] ^= 1
    before = where % len(prompt)
    one, other = (TokenSequence(ROOT, tokens, EndRule.never()) for tokens in (prompt, changed))
    assert one.state(before) == other.state(before)
    assert one.state(len(prompt)) != other.state(len(prompt))


def test_model_and_seed_change_the_tokens() -> None:
    answers = {
        tuple(TokenSequence(root_state(*identity), [1, 2, 3], EndRule.never()).generated(0, 8))
        for identity in (("a", 0), ("a", 1), ("b", 0))
    }
    assert len(answers) == 3


def test_an_end_by_chance_is_geometric_in_its_mean() -> None:
    lengths = []
    for prompt in range(400):
        sequence = TokenSequence(ROOT, [prompt], EndRule(mean_tokens=20))
        tokens = sequence.generated(0, 400)
        lengths.append(tokens.index(tokenizer.END) + 1)
    assert 17 < sum(lengths) / len(lengths) < 23


def test_the_end_waits_for_the_first_position_allowed() -> None:
    for prompt in range(50):
        tokens = TokenSequence(ROOT, [prompt], EndRule(mean_tokens=2, first=10)).generated(0, 60)
        assert tokens.index(tokenizer.END) >= 10
