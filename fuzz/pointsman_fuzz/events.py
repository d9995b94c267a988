"""What engines stream: events as sessions read them."""

from pointsman.router.answers import AnswerError, RelayedStream, Stream, TrackedStream
from pointsman_fuzz.wire import cuttings

Story = tuple[bytes, int, int, int, bool]
"""What the client gets, tokens seen and counted, of prompt and answer; whether the end is an end."""


async def run(data: bytes) -> None:
    """However the bytes are cut, the client gets the same, or an error."""
    for make in (RelayedStream, lambda: TrackedStream(keep_usage=True)):
        stories = [_passed(make(), pieces, data) for pieces in cuttings(data)]
        assert len(set(stories)) == 1, "another answer, cut otherwise"
    hidden = [_passed(TrackedStream(keep_usage=False), pieces, data) for pieces in cuttings(data)]
    assert len(set(hidden)) == 1, "another answer, cut otherwise"


def _passed(stream: Stream, pieces: list[bytes], data: bytes) -> Story | None:
    """None: it failed, at whatever point."""
    passed = b""
    try:
        for piece in pieces:
            passed += stream.feed(piece)
    except AnswerError as error:
        assert 400 <= error.status < 600, error.status
        return None
    try:
        passed += stream.finish()
        finished = True
    except AnswerError:
        finished = False
    assert len(passed) <= len(data)
    return passed, stream.output_tokens, stream.counted_tokens, stream.prompt_tokens, finished
