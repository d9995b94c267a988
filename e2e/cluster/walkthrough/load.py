"""Streams until told to end (a line on stdin): python load.py BASE_URL MODEL STREAMS

It says `streaming` when each of them has ended once.
"""

import asyncio
import collections
import sys

import openai

TOKENS = 24
PAUSE_S = 0.1
QUESTION = "Which way to the harbour, and is there a ferry? " * 60


class Load:
    """As many streams at once, one after the other each, and what became of them."""

    def __init__(self, base_url: str, model: str) -> None:
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=120)
        self._model = model
        self.ended = False
        self.outcomes: collections.Counter[str] = collections.Counter()

    async def stream(self, number: int) -> None:
        asked = 0
        while not self.ended:
            asked += 1
            self.outcomes[await self._ask(f"{number}.{asked}: {QUESTION}")] += 1

    async def _ask(self, question: str) -> str:
        tokens = 0
        try:
            stream = await self._client.completions.create(
                model=self._model,
                prompt=question,
                max_tokens=TOKENS,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            async for chunk in stream:
                tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        except openai.OpenAIError as error:
            return f"{type(error).__name__}: {error}"
        return "whole" if tokens == TOKENS else f"{tokens} tokens of {TOKENS}"


async def main() -> None:
    base_url, model, streams = sys.argv[1:]
    load = Load(base_url, model)
    running = [asyncio.create_task(load.stream(number)) for number in range(int(streams))]
    while load.outcomes.total() < int(streams):
        await asyncio.sleep(PAUSE_S)
    print("streaming", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    load.ended = True
    await asyncio.gather(*running)
    whole = load.outcomes.pop("whole", 0)
    print(f"requests: {whole + load.outcomes.total()}, failed: {load.outcomes.total()}")
    for outcome, count in load.outcomes.most_common(5):
        print(f"  {count} x {outcome}")


if __name__ == "__main__":
    asyncio.run(main())
