"""`/v1/completions`: answers, streams, what bounds and what ends them."""

from typing import Any

from contract.answers import COMPLETIONS, completion, ids
from contract.case import Case, Engines, Observation, checked, post
from contract.shape import shape

P = ids(8)
USAGE = {"include_usage": True}
CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}
SAMPLED: dict[str, Any] = {"temperature": 1.0, "seed": 7}

SHAPES = (
    post("one answer", COMPLETIONS, completion(P)),
    post("a stream", COMPLETIONS, completion(P, stream=True)),
    post("a stream of one token", COMPLETIONS, completion(P, 1, stream=True, return_token_ids=True)),
    post("a stream with usage", COMPLETIONS, completion(P, stream=True, stream_options=USAGE)),
    post(
        "a stream with usage in every event",
        COMPLETIONS,
        completion(P, stream=True, stream_options=CONTINUOUS),
    ),
    post("a stream with empty stream_options", COMPLETIONS, completion(P, stream=True, stream_options={})),
    post("two prompts", COMPLETIONS, completion([ids(4), ids(6, first=50)])),
    post("two texts", COMPLETIONS, completion(["import os", "import sys"])),
    post("a text", COMPLETIONS, completion("import os")),
    post("a text streamed", COMPLETIONS, completion("import os", stream=True)),
    post("two choices", COMPLETIONS, completion(P, n=2, **SAMPLED)),
    post("echo", COMPLETIONS, completion(P, echo=True)),
    post("logprobs", COMPLETIONS, completion(P, logprobs=2)),
    post("logprobs of the chosen token only", COMPLETIONS, completion(P, logprobs=0)),
    post("logprobs streamed", COMPLETIONS, completion(P, logprobs=1, stream=True)),
    post("token ids", COMPLETIONS, completion(P, return_token_ids=True)),
    post("token ids streamed", COMPLETIONS, completion(P, return_token_ids=True, stream=True)),
    post("max_tokens is 16 unless told", COMPLETIONS, {"model": "tiny", "prompt": P, "ignore_eos": True}),
    post(
        "no model means the one that is served",
        COMPLETIONS,
        {"prompt": P, "max_tokens": 3, "ignore_eos": True},
    ),
    post("unknown fields are ignored", COMPLETIONS, completion(P, no_such_field=1, best_of=2)),
    post("a cache_salt", COMPLETIONS, completion(P, cache_salt="salt")),
    post("a priority", COMPLETIONS, completion(P, priority=-5)),
)


@checked("streamed choices come by index")
async def streamed_choices(engines: Engines) -> Observation:
    answer = await engines.one.post(
        COMPLETIONS, completion(P, n=2, stream=True, stream_options=USAGE, **SAMPLED)
    )
    seen = [choice["index"] for chunk in answer.chunks for choice in chunk["choices"]]
    return {
        "indices": sorted(set(seen)),
        "each": [seen.count(0), seen.count(1)],
        "usage": answer.chunks[-1]["usage"],
    }


@checked("streamed prompts come by index")
async def streamed_prompts(engines: Engines) -> Observation:
    answer = await engines.one.post(
        COMPLETIONS, completion([ids(4), ids(6)], stream=True, stream_options=USAGE)
    )
    seen = [choice["index"] for chunk in answer.chunks for choice in chunk["choices"]]
    return {"indices": sorted(set(seen)), "usage": answer.chunks[-1]["usage"]}


@checked("greedy answers repeat")
async def greedy_repeats(engines: Engines) -> Observation:
    first, second = [await engines.one.complete(ids(40), 12) for _ in range(2)]
    return {"same": first.token_ids == second.token_ids, "tokens": len(first.token_ids)}


@checked("a stream says what the answer says")
async def stream_equals_answer(engines: Engines) -> Observation:
    whole, streamed = await engines.one.complete(P, 12), await engines.one.complete(P, 12, stream=True)
    return {"tokens": whole.token_ids == streamed.token_ids, "text": whole.text == streamed.text}


@checked("a seed repeats its sample")
async def seed_repeats(engines: Engines) -> Observation:
    answers = [await engines.one.complete(P, 12, temperature=1.0, seed=seed) for seed in (7, 7, 8)]
    first, again, other = [answer.token_ids for answer in answers]
    return {"same seed": first == again, "other seed": first == other}


@checked("two engines of one model agree")
async def engines_agree(engines: Engines) -> Observation:
    prompt = ids(70, first=61)
    return {
        "same": (await engines.one.complete(prompt)).token_ids
        == (await engines.other.complete(prompt)).token_ids
    }


@checked("a continuation from token ids continues")
async def continuation(engines: Engines) -> Observation:
    prompt = ids(45, first=62)
    whole = (await engines.one.complete(prompt, 12)).token_ids
    rest = (await engines.other.complete([*prompt, *whole[:5]], 7)).token_ids
    return {"same": rest == whole[5:]}


@checked("every token of the prompt counts")
async def prompt_matters(engines: Engines) -> Observation:
    prompt = ids(40, first=63)
    changed = [prompt[0] + 1, *prompt[1:]]
    return {
        "same": (await engines.one.complete(prompt)).token_ids
        == (await engines.one.complete(changed)).token_ids
    }


@checked("a text and its token ids are one prompt")
async def text_is_ids(engines: Engines) -> Observation:
    text = "import os, sys; print(sys.argv)"
    prompt = (await engines.one.post("/tokenize", {"model": "tiny", "prompt": text})).json["tokens"]
    by_text = await engines.one.post(COMPLETIONS, completion(text, 8, return_token_ids=True))
    return {"same": by_text.token_ids == (await engines.one.complete(prompt, 8)).token_ids}


async def stop_case(engines: Engines, **more: object) -> Observation:
    """Stop at the last two characters of the text of the first five tokens."""
    text = (await engines.one.complete(P, 16)).text
    first = (await engines.one.complete(P, 5)).text
    stop = first[-2:]
    answer = await engines.one.complete(P, 16, stop=[stop], **more)
    parts = answer.chunks if answer.streamed else [answer.json]
    reasons = [choice.get("stop_reason") for part in parts for choice in part["choices"]]
    expected = text[: text.index(stop)] + (stop if more.get("include_stop_str_in_output") else "")
    return {
        "cut": answer.text == expected,
        "finish": answer.finish_reason,
        "names the stop": reasons[-1] == stop,
    }


@checked("a stop string is cut off")
async def stop_string(engines: Engines) -> Observation:
    return await stop_case(engines)


@checked("a stop string never shows in a stream")
async def stop_streamed(engines: Engines) -> Observation:
    return await stop_case(engines, stream=True)


@checked("a stop string stays when asked for")
async def stop_included(engines: Engines) -> Observation:
    return await stop_case(engines, include_stop_str_in_output=True)


@checked("a stop token ends the answer")
async def stop_token(engines: Engines) -> Observation:
    tokens = (await engines.one.complete(P, 8)).token_ids
    answer = await engines.one.complete(P, 8, stop_token_ids=[tokens[3]])
    choice = answer.json["choices"][0]
    return {
        "tokens": answer.token_ids == tokens[: tokens.index(tokens[3]) + 1],
        "finish": choice["finish_reason"],
        "names the token": choice["stop_reason"] == tokens[3],
    }


END_AT_ONCE = {"ignore_eos": False, "allowed_token_ids": [2], "pointsman_output_tokens": 1}


@checked("an answer that ends by itself")
async def ends_by_itself(engines: Engines) -> Observation:
    return shape(await engines.one.post(COMPLETIONS, completion(P, 8, **END_AT_ONCE)), exact_counts=True)


@checked("a stream that ends by itself")
async def stream_ends_by_itself(engines: Engines) -> Observation:
    body = completion(P, 8, stream=True, return_token_ids=True, **END_AT_ONCE)
    return shape(await engines.one.post(COMPLETIONS, body), exact_counts=True)


@checked("ignore_eos goes on to max_tokens")
async def ignores_end(engines: Engines) -> Observation:
    body = completion(P, 5, **END_AT_ONCE | {"ignore_eos": True})
    answer = await engines.one.post(COMPLETIONS, body)
    return {"finish": answer.finish_reason, "tokens": answer.json["usage"]["completion_tokens"]}


@checked("min_tokens keeps the answer from ending")
async def min_tokens(engines: Engines) -> Observation:
    body = completion(P, 8, **END_AT_ONCE | {"allowed_token_ids": [2, 50], "min_tokens": 4})
    answer = await engines.one.post(COMPLETIONS, body)
    return {"at least": answer.json["usage"]["completion_tokens"] >= 4, "finish": answer.finish_reason}


@checked("the context bounds an answer that asks for more")
async def context_bound(engines: Engines) -> Observation:
    answer = await engines.one.post(COMPLETIONS, completion(ids(2000), 200))
    return {
        "status": answer.status,
        "finish": answer.finish_reason,
        "usage": answer.json["usage"]["completion_tokens"],
    }


@checked("an answer's id follows x-request-id")
async def request_id_header(engines: Engines) -> Observation:
    headers = {"x-request-id": "from-header-1"}
    answer = await engines.one.ask("POST", COMPLETIONS, json=completion(P, 1), headers=headers)
    return {"id": answer.json["id"], "echoed": answer.headers.get("x-request-id")}


@checked("an answer's id follows request_id")
async def request_id_field(engines: Engines) -> Observation:
    return {
        "id": (await engines.one.post(COMPLETIONS, completion(P, 1, request_id="from-body-1"))).json["id"]
    }


CASES: tuple[Case, ...] = (
    *SHAPES,
    streamed_choices,
    streamed_prompts,
    greedy_repeats,
    stream_equals_answer,
    seed_repeats,
    engines_agree,
    continuation,
    prompt_matters,
    text_is_ids,
    stop_string,
    stop_streamed,
    stop_included,
    stop_token,
    ends_by_itself,
    stream_ends_by_itself,
    ignores_end,
    min_tokens,
    context_bound,
    request_id_header,
    request_id_field,
)
