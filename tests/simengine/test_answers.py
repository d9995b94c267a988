import pytest

from pointsman.simengine import tokenizer
from pointsman.simengine.answers import Answer, Ending, Limits
from pointsman.simengine.sequence import TokenSequence, root_state

ROOT = root_state("model", 0)
PROMPT = tokenizer.encode("Tell me a story about a signal box.").tolist()


def answer(**limits: object) -> Answer:
    bounds = Limits(**{"max_tokens": 64, "ignore_eos": True, **limits})  # type: ignore[arg-type]
    return Answer(0, TokenSequence(ROOT, PROMPT, bounds.end_rule()), bounds)


def plain_text(tokens: int = 64) -> str:
    return answer().take(tokens).text


@pytest.mark.parametrize(
    ("limits", "ending"),
    [
        pytest.param({}, Ending(64, "length"), id="the limit"),
        pytest.param({"ignore_eos": False, "own_tokens": 9}, Ending(9, "stop"), id="its own end"),
        pytest.param(
            {"ignore_eos": False, "own_tokens": 64}, Ending(64, "stop"), id="its own end at the limit"
        ),
        pytest.param(
            {"ignore_eos": False, "own_tokens": 65}, Ending(64, "length"), id="its own end too late"
        ),
        pytest.param({"own_tokens": 9}, Ending(64, "length"), id="its own end ignored"),
        pytest.param(
            {"ignore_eos": False, "own_tokens": 3, "min_tokens": 10},
            Ending(11, "stop"),
            id="not before min_tokens",
        ),
    ],
)
def test_where_an_answer_ends(limits: dict[str, object], ending: Ending) -> None:
    assert answer(**limits).ending == ending


def test_an_end_token_counts_and_adds_no_text() -> None:
    ended = answer(ignore_eos=False, own_tokens=5).take(5)
    assert ended.finished
    assert ended.token_ids[-1] == tokenizer.END
    assert ended.text == plain_text(4)


class TestStopStrings:
    def test_cut_the_text_and_say_which(self) -> None:
        stop = plain_text()[22:27]
        stopped = answer(stop=(stop,))
        assert stopped.ending == Ending(7, "stop", stop, 22)
        assert stopped.take(7).text == plain_text()[:22]

    def test_stay_when_asked_for(self) -> None:
        stop = plain_text()[22:27]
        assert answer(stop=(stop,), include_stop=True).take(7).text == plain_text()[:27]

    def test_do_not_count_before_min_tokens(self) -> None:
        stop = plain_text()[2:6]
        assert plain_text().count(stop) == 1
        assert answer(stop=(stop,), min_tokens=10).ending == Ending(64, "length")

    def test_streamed_text_never_shows_the_start_of_one(self) -> None:
        stop = plain_text()[22:27]
        stopped = answer(stop=(stop,))
        shown = ""
        for count in range(1, 8):
            shown += stopped.take(count).text
            assert plain_text()[:22].startswith(shown)
        assert shown == plain_text()[:22]

    def test_streamed_without_a_match_everything_arrives_in_the_end(self) -> None:
        unstopped = answer(stop=("never there",))
        texts = [unstopped.take(count).text for count in range(1, 65)]
        assert texts[0] == ""
        assert "".join(texts) == plain_text()


def test_a_stop_token_ends_without_its_text() -> None:
    token = answer().take(64).token_ids[6]
    stopped = answer(stop_token_ids=frozenset([token]))
    first = answer().take(64).token_ids.index(token)
    assert stopped.ending == Ending(first + 1, "stop", token, first * 4)
    assert stopped.take(first + 1).text == plain_text(first)
