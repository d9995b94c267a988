"""One streamed answer through the client that users have: python chat.py BASE_URL MODEL"""

import sys
import time

import openai

QUESTION = (
    "Which way to the harbour, and is there a ferry? " * 60
)  # long enough to go through the prefill pool


def main() -> None:
    base_url, model = sys.argv[1:]
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    began = time.perf_counter()
    stream = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=48,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"x-pointsman-explain": "1"},
    )
    first, pieces, usage = 0.0, 0, None
    for chunk in stream.parse():
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.perf_counter() - began
            pieces += 1
        usage = chunk.usage or usage
    print(
        f"first token after {first:.2f} s, {pieces} pieces, {usage.completion_tokens if usage else '?'} tokens"
    )
    print(stream.headers.get("x-pointsman-decision", "no decision told"))


if __name__ == "__main__":
    main()
