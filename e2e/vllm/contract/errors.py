"""What an engine says to what it cannot serve."""

from contract.answers import CHAT, COMPLETIONS, chat, completion, ids
from contract.case import Case, ask, post

P = ids(8)
JSON = {"content-type": "application/json"}
VALID = b'{"model": "tiny", "prompt": [50], "max_tokens": 1}'
IMAGE = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}]

CASES: tuple[Case, ...] = (
    post("unknown model", COMPLETIONS, completion(P) | {"model": "nope"}),
    post("unknown model in a chat", CHAT, chat() | {"model": "nope"}),
    post("max_tokens 0", COMPLETIONS, completion(P, 0)),
    post("max_tokens negative", COMPLETIONS, completion(P, -1)),
    post("max_tokens beyond the context", COMPLETIONS, completion(P, 100000)),
    post("max_tokens a word", COMPLETIONS, completion(P) | {"max_tokens": "x"}),
    post("max_tokens a fraction", COMPLETIONS, completion(P) | {"max_tokens": 1.5}),
    post("min_tokens beyond max_tokens", COMPLETIONS, completion(P, min_tokens=9)),
    post("prompt beyond the context", COMPLETIONS, completion(ids(3000))),
    post("prompt that fills the context", COMPLETIONS, completion(ids(2048))),
    post("chat beyond the context", CHAT, chat("import os, sys; " * 2000), exact_counts=False),
    post("empty text", COMPLETIONS, completion("")),
    post("empty list", COMPLETIONS, completion([])),
    post("no prompt", COMPLETIONS, {"model": "tiny"}),
    post("token id beyond the vocabulary", COMPLETIONS, completion([2**31 - 1])),
    post("token id negative", COMPLETIONS, completion([-1])),
    post("no choice", COMPLETIONS, completion(P, n=0)),
    post("greedy choices", COMPLETIONS, completion(P, n=2)),
    post("temperature negative", COMPLETIONS, completion(P, temperature=-1)),
    post("top_p beyond one", COMPLETIONS, completion(P, top_p=2)),
    post("suffix", COMPLETIONS, completion(P, suffix="x")),
    post("priority a word", COMPLETIONS, completion(P, priority="x")),
    post(
        "stream_options without a stream", COMPLETIONS, completion(P, stream_options={"include_usage": True})
    ),
    post("too many logprobs", COMPLETIONS, completion(P, logprobs=99)),
    post("no messages", CHAT, {"model": "tiny"}),
    post("an empty conversation", CHAT, chat() | {"messages": []}),
    post("messages a word", CHAT, chat() | {"messages": "hi"}),
    post("a message without a role", CHAT, chat() | {"messages": [{"content": "hi"}]}),
    post("an image to a text model", CHAT, chat(IMAGE)),
    post("top_logprobs without logprobs", CHAT, chat(top_logprobs=2)),
    post("an unknown response format", CHAT, chat(response_format={"type": "zzz"})),
    post("a stream of what cannot be served", CHAT, chat(stream=True, max_tokens=0)),
    post("kv_transfer_params a word", COMPLETIONS, completion(P, kv_transfer_params="x")),
    ask("broken JSON", "POST", COMPLETIONS, content=b"{", headers=JSON),
    ask("invalid UTF-8", "POST", COMPLETIONS, content=b'{"model":"tiny","prompt":"\xff\xfe"}', headers=JSON),
    ask("no body", "POST", COMPLETIONS, content=b"", headers=JSON),
    ask("a list as the body", "POST", COMPLETIONS, content=b"[]", headers=JSON),
    ask("no content type", "POST", COMPLETIONS, content=VALID),
    ask("another content type", "POST", COMPLETIONS, content=VALID, headers={"content-type": "text/plain"}),
    ask(
        "a charset",
        "POST",
        COMPLETIONS,
        content=VALID,
        headers={"content-type": "application/json; charset=utf-8"},
    ),
    ask("GET where POST is meant", "GET", COMPLETIONS),
    ask("PUT where POST is meant", "PUT", CHAT, json=chat()),
    ask("an unknown path", "GET", "/nope"),
    ask(
        "embeddings of a model that generates", "POST", "/v1/embeddings", json={"model": "tiny", "input": "x"}
    ),
)
