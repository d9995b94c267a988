"""Where the simulated engine answers otherwise than vLLM, and why. `docs/simulated-engine.md` lists the same."""

MEMORY = (
    "vLLM reads whatever is in that memory by now and answers 200; the simulated engine says that it is gone"
)
RANDOM = "its words are random: no grammar bounds them"
LATER = "not simulated yet"

DIFFERENCES: dict[tuple[str, str], str] = {
    ("chat", "a stream with usage in every event"): LATER,
    ("chat", "a named tool is called"): RANDOM,
    ("chat", "a named tool is called in a stream"): RANDOM,
    ("chat", "an answer in a schema"): RANDOM,
    ("completions", "a seed repeats its sample"): LATER,
    (
        "errors",
        "chat beyond the context",
    ): "vLLM stops tokenizing a text at the limit; the simulated engine tells the real length",
    ("errors", "empty text"): LATER,
    ("errors", "empty list"): LATER,
    ("errors", "no prompt"): LATER,
    ("errors", "token id negative"): LATER,
    ("errors", "suffix"): LATER,
    ("errors", "stream_options without a stream"): LATER,
    ("errors", "an empty conversation"): LATER,
    ("errors", "a message without a role"): "pydantic's path through vLLM's union of message types",
    ("errors", "an image to a text model"): LATER,
    ("errors", "top_logprobs without logprobs"): LATER,
    ("errors", "an unknown response format"): LATER,
    ("errors", "invalid UTF-8"): LATER,
    ("errors", "no body"): LATER,
    ("errors", "a list as the body"): LATER,
    ("errors", "GET where POST is meant"): LATER,
    ("errors", "PUT where POST is meant"): LATER,
    ("errors", "embeddings of a model that generates"): "every simulated model embeds as well",
    ("serving", "health by HEAD"): LATER,
    (
        "serving",
        "sleep is for development",
    ): "open without a development mode, for tests of sleeping instances",
    ("serving", "render a chat"): LATER,
    ("serving", "render a completion"): LATER,
    ("serving", "abort what does not run"): LATER,
    ("serving", "generate from token ids"): LATER,
    ("serving", "a rendered chat is what is served"): LATER,
    ("serving", "metrics: names, types and labels"): LATER,
    ("serving", "a client that leaves a stream aborts it"): LATER,
    ("serving", "an aborted request ends with the reason abort"): LATER,
    ("serving", "KV events: stored blocks as published"): LATER,
    ("transfer", "a prefill leg of a chat"): LATER,
    ("transfer", "a prefill leg below one block"): LATER,
    ("transfer", "a prefill leg"): LATER,
    ("transfer", "a leg of three tokens is continued"): LATER,
    ("transfer", "a second pull of the same blocks"): MEMORY,
    ("transfer", "a pull after the lease has ended"): MEMORY,
    ("transfer", "a pull of blocks under another request's name"): MEMORY,
    ("transfer", "a pull by the lender itself"): "vLLM fails; the simulated engine finds its own KV",
}
