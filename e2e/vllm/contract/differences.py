"""Where the simulated engine answers otherwise than vLLM, and why. `docs/simulated-engine.md` lists the same."""

MEMORY = (
    "vLLM reads whatever is in that memory by now and answers 200; the simulated engine says that it is gone"
)
RANDOM = "its words are random: no grammar or tool bounds them"
DRAINING = "it answers 503 while it drains, so that routers notice"
UNION = "the path goes through the names of vLLM's own union types"

DIFFERENCES: dict[tuple[str, str], str] = {
    ("endings", "draining: completion"): DRAINING,
    ("endings", "draining: streamed completion"): DRAINING,
    ("endings", "draining: health"): DRAINING,
    ("transfer", "a second pull of the same blocks"): MEMORY,
    ("transfer", "a pull after the lease has ended"): MEMORY,
    ("transfer", "a pull of blocks under another request's name"): MEMORY,
    ("chat", "a named tool is called"): RANDOM,
    ("chat", "a named tool is called in a stream"): RANDOM,
    ("chat", "an answer in a schema"): RANDOM,
    ("errors", "token id negative"): UNION,
    ("errors", "a message without a role"): UNION,
    (
        "completions",
        "a seed repeats its sample",
    ): "every answer is a function of its prompt, at any temperature, so that a continuation can be told from a guess",
    (
        "errors",
        "embeddings of a model that generates",
    ): "every simulated model gives embeddings as well, for tests of routers",
    (
        "serving",
        "sleep is for development",
    ): "sleep and wake are open without a development mode, for tests of sleeping instances",
    (
        "transfer",
        "a leg of three tokens is continued",
    ): "vLLM counts the last token of the prompt as pulled, though it computes it",
    (
        "transfer",
        "a pull by the lender itself",
    ): "vLLM fails to reach itself; the simulated engine finds its own KV",
}
