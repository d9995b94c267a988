"""From a request body to a job in the engine, and from the job to the HTTP answer."""

import asyncio
from array import array
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pointsman.sim.engine import EngineRequest
from pointsman.simengine import tokenizer
from pointsman.simengine.answers import Answer
from pointsman.simengine.asgi import Outbox, Request
from pointsman.simengine.bodies import ChatBody, CompletionBody, GenerationBody, read_body
from pointsman.simengine.errors import bad_request
from pointsman.simengine.faults import Faults
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.jobs import Job, Run
from pointsman.simengine.registry import Registry
from pointsman.simengine.sampling import check_lengths, check_sampling, limits_of, wanted_logprobs
from pointsman.simengine.sequence import TokenSequence, root_state
from pointsman.simengine.template import render
from pointsman.simengine.wire import ChatWire, CompletionWire, Heading, Shown, Usage, Wire


@dataclass(slots=True)
class Generation:
    """Serves `/v1/chat/completions` and `/v1/completions`."""

    instance: SimulatedInstance
    registry: Registry
    faults: Faults
    fingerprint: str

    async def chat(self, request: Request) -> None:
        body = read_body(ChatBody, await request.body(), request.headers.get(b"content-type", b""))
        model, lora = self.registry.resolve(body.model)
        prompt = render(
            body.messages,
            body.tools,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
        )
        wire = ChatWire(self._heading("chatcmpl", request, body, model), shown_of(body), [prompt])
        await self._serve(request, body, wire, lora)

    async def completion(self, request: Request) -> None:
        body = read_body(CompletionBody, await request.body(), request.headers.get(b"content-type", b""))
        model, lora = self.registry.resolve(body.model)
        prompts = [prompt_tokens(prompt) for prompt in body.prompts()]
        wire = CompletionWire(self._heading("cmpl", request, body, model), shown_of(body), prompts)
        await self._serve(request, body, wire, lora)

    async def _serve(self, request: Request, body: GenerationBody, wire: Wire, lora: str | None) -> None:
        check_sampling(body)
        self.faults.fail_some()
        job = self._job(body, wire, lora)
        watch = asyncio.create_task(request.disconnected())
        watch.add_done_callback(lambda _: self.instance.abort(job))
        try:
            self.instance.start(job)
            if job.outbox is not None:
                await self._stream(request, job, job.outbox, watch)
            else:
                await self._whole(request, job, watch)
        finally:
            watch.cancel()
            self.instance.abort(job)

    def _job(self, body: GenerationBody, wire: Wire, lora: str | None) -> Job:
        choices = body.n or 1
        options = self.instance.options
        job = Job(
            wire,
            Outbox() if body.stream else None,
            Usage(sum(map(len, wire.prompts)), cached_tokens=0 if options.prompt_tokens_details else None),
            max(options.tokens_per_event, body.stream_interval or 1),
            0,
            choices,
            drop_after=self.faults.drop_after() if body.stream else None,
        )
        for number, prompt in enumerate(wire.prompts):
            job.max_tokens = check_lengths(body, len(prompt), options.longest_context())
            limits = limits_of(body, job.max_tokens, options.mean_output_tokens)
            for choice in range(choices):
                root = root_state(options.model, options.seed, lora or "", body.cache_salt or "", choice)
                answer = Answer(
                    number * choices + choice, TokenSequence(root, prompt, limits.end_rule()), limits
                )
                request_id = f"{wire.heading.id}-{answer.index}-{uuid4().hex[:8]}"
                job.runs.append(
                    Run(job, answer, number, self._engine_request(request_id, answer, body), lora)
                )
        return job

    def _engine_request(self, request_id: str, answer: Answer, body: GenerationBody) -> EngineRequest:
        block = self.instance.options.profile.block_size
        sequence = answer.sequence
        return EngineRequest(
            request_id=request_id,
            prompt_tokens=sequence.prompt_tokens,
            output_tokens=answer.ending.tokens,
            block_hash=lambda index: sequence.state((index + 1) * block),
            priority=body.priority,
        )

    async def _stream(self, request: Request, job: Job, outbox: Outbox, watch: "asyncio.Task[None]") -> None:
        await request.start_events()
        watch.add_done_callback(lambda _: outbox.close())
        while not watch.done() and (data := await outbox.take()):
            await request.send_events(data)
        if job.finished:
            await request.send_events(b"", more=False)

    async def _whole(self, request: Request, job: Job, watch: "asyncio.Task[None]") -> None:
        watch.add_done_callback(lambda _: job.done.set())
        await job.done.wait()
        if job.failure is not None:
            raise job.failure
        if all(run.finished for run in job.runs):
            await request.answer_json(job.body())

    def _heading(self, prefix: str, request: Request, body: GenerationBody, model: str) -> Heading:
        given = request.headers.get(b"x-request-id")
        name = given.decode("latin-1") if given else body.request_id or uuid4().hex
        return Heading(f"{prefix}-{name}", int(self.instance.wall_s()), model, self.fingerprint)


def prompt_tokens(prompt: str | list[int]) -> "array[int]":
    """Token ids of a prompt. Raises ApiError 400 for ids outside the vocabulary."""
    if isinstance(prompt, str):
        return tokenizer.encode(prompt)
    if prompt and max(prompt) >= tokenizer.VOCAB_SIZE:
        raise bad_request(f"Token id {max(prompt)} is out of vocabulary")
    return array("I", prompt)


def shown_of(body: GenerationBody) -> Shown:
    """What the client asked to see."""
    options: Any = body.stream_options
    usage = bool(options and options.include_usage)
    return Shown(
        logprobs=wanted_logprobs(body),
        logprobs_as_ids=bool(body.return_tokens_as_token_ids),
        token_ids=bool(body.return_token_ids),
        echo=isinstance(body, CompletionBody) and bool(body.echo),
        usage=usage,
        continuous_usage=usage and bool(options.continuous_usage_stats),
    )
