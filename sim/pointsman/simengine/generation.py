"""From a request body to a job in the engine, and from the job to the HTTP answer."""

import asyncio
from array import array
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pointsman.sim.engine import EngineRequest
from pointsman.simengine import tokenizer
from pointsman.simengine.answers import Answer
from pointsman.simengine.asgi import ClientLeftError, Outbox, Request
from pointsman.simengine.bodies import ChatBody, CompletionBody, GenerationBody, read_body
from pointsman.simengine.errors import ApiError, bad_request, shutting_down
from pointsman.simengine.faults import Faults
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.jobs import Job, Run
from pointsman.simengine.options import Flavour
from pointsman.simengine.registry import Registry
from pointsman.simengine.sampling import check_lengths, check_sampling, limits_of, wanted_logprobs
from pointsman.simengine.sequence import TokenSequence, root_state
from pointsman.simengine.sglang_wire import SglangChatWire, SglangCompletionWire
from pointsman.simengine.template import has_media, render
from pointsman.simengine.transfer.claims import Claim
from pointsman.simengine.transfer.exchange import Exchange
from pointsman.simengine.transfer.offers import Offer
from pointsman.simengine.transfer.protocols import ALONE, Part, part_of
from pointsman.simengine.wire import ChatWire, CompletionWire, Heading, Shown, Usage, Wire


@dataclass(slots=True)
class Generation:
    """Serves `/v1/chat/completions` and `/v1/completions`."""

    instance: SimulatedInstance
    exchange: Exchange
    registry: Registry
    faults: Faults
    fingerprint: str

    async def chat(self, request: Request) -> None:
        body = read_body(ChatBody, await request.body(), request.headers.get(b"content-type", b""))
        model, lora = self.registry.resolve(body.model)
        prompt = self.chat_prompt(body)
        kind = SglangChatWire if self.instance.options.flavour is Flavour.SGLANG else ChatWire
        wire = kind(self._heading("chatcmpl", request, body, model), shown_of(body), [prompt])
        await self.serve(request, body, wire, lora)

    def chat_prompt(self, body: ChatBody) -> "array[int]":
        """Token ids of a conversation. Raises ApiError: no such model, nothing said, or not in words."""
        model, _ = self.registry.resolve(body.model)
        if not body.messages:
            raise bad_request(
                "Cannot apply chat template to an empty conversation. Provide at least one message."
            )
        if any(map(has_media, body.messages)):
            raise bad_request(f"{model} is not a multimodal model")
        return render(
            body.messages,
            body.tools,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
        )

    async def completion(self, request: Request) -> None:
        body = read_body(CompletionBody, await request.body(), request.headers.get(b"content-type", b""))
        model, lora = self.registry.resolve(body.model)
        if body.prompt == []:
            raise bad_request("You must pass at least one prompt")
        if body.suffix and not isinstance(body.prompt, str):
            message = "suffix requires text prompt input for FIM completion rendering"
            raise ApiError(400, "BadRequestError", message, "suffix")
        prompts = [prompt_tokens(prompt) for prompt in body.prompts()]
        kind = SglangCompletionWire if self.instance.options.flavour is Flavour.SGLANG else CompletionWire
        wire = kind(self._heading("cmpl", request, body, model), shown_of(body), prompts)
        await self.serve(request, body, wire, lora)

    async def serve(self, request: Request, body: GenerationBody, wire: Wire, lora: str | None) -> None:
        """Generate what a validated body asks for, and answer as the wire says."""
        part = part_of(body, self.instance.options.transfer)
        try:
            check_sampling(body)
            self.faults.fail_some()
            job = self._job(body, wire, lora, only_prefill=part.meets)
        except ApiError:
            await self.exchange.refuse(part)
            raise
        if self.instance.draining:
            await self.exchange.refuse(part)
            await _give_up(request, job, part)
            return
        watch = asyncio.create_task(request.disconnected())

        def on_left(_: "asyncio.Task[None]") -> None:
            self.instance.abort(job)
            job.leave()

        watch.add_done_callback(on_left)
        held: Claim | Offer | None = None
        try:
            if job.outbox is not None:
                await request.start_events()
            try:
                held = await self._begin(job, part, watch)
            except ApiError as failure:
                job.fail(failure)
            else:
                self.instance.start(job)
            if job.outbox is not None:
                while data := await job.outbox.take():
                    await request.send_events(data)
            else:
                await job.done.wait()
            if watch.done() or not job.finished:
                return
            if part.gives and job.failure is None:
                await self.exchange.ended(job, part, held)
            await self._conclude(request, job)
        finally:
            watch.cancel()
            self.instance.abort(job)
            self.exchange.end(part, held)

    def _job(self, body: GenerationBody, wire: Wire, lora: str | None, *, only_prefill: bool) -> Job:
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
            allowed = check_lengths(body, len(prompt), options.longest_context())
            job.max_tokens = 1 if only_prefill else allowed
            limits = limits_of(body, job.max_tokens, options.mean_output_tokens)
            for choice in range(choices):
                root = root_state(options.model, options.seed, lora or "", body.cache_salt or "", choice)
                answer = Answer(
                    number * choices + choice, TokenSequence(root, prompt, limits.end_rule()), limits
                )
                name = wire.internal_id(answer.index)
                engine_request = self._engine_request(f"{name}-{uuid4().hex[:8]}", answer, body)
                job.runs.append(Run(job, answer, number, engine_request, lora, name))
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

    async def _begin(self, job: Job, part: Part, watch: "asyncio.Task[None]") -> Claim | Offer | None:
        """The transfer's start, given up when the client leaves."""
        if part is ALONE:
            return None
        begin = asyncio.create_task(self.exchange.begin(job, part))
        await asyncio.wait((begin, watch), return_when=asyncio.FIRST_COMPLETED)
        if not begin.done():
            begin.cancel()
            await asyncio.wait((begin,))
            raise ClientLeftError
        return begin.result()

    async def _conclude(self, request: Request, job: Job) -> None:
        if job.outbox is not None:
            await request.send_events(b"", more=False)
        elif job.failure is not None:
            raise job.failure
        else:
            await request.answer_json(job.body())

    def _heading(self, prefix: str, request: Request, body: GenerationBody, model: str) -> Heading:
        if self.instance.options.flavour is Flavour.SGLANG:
            return Heading(uuid4().hex, int(self.instance.wall_s()), model, self.fingerprint)
        name = request_name(request, body.request_id)
        return Heading(f"{prefix}-{name}", int(self.instance.wall_s()), model, self.fingerprint)


async def _give_up(request: Request, job: Job, part: Part) -> None:
    """While the instance drains: as vLLM gives a leg up whose KV is asked for; others learn that they are refused."""
    if not part.gives or job.outbox is not None:
        raise shutting_down()
    job.cut_short("abort")
    await request.answer_json(job.body())


def prompt_tokens(prompt: str | list[int]) -> "array[int]":
    """Token ids of a prompt. Raises ApiError 400 for ids outside the vocabulary."""
    if isinstance(prompt, str):
        return tokenizer.encode(prompt)
    if prompt and max(prompt) >= tokenizer.VOCAB_SIZE:
        raise bad_request(f"Token id {max(prompt)} is out of vocabulary")
    return array("I", prompt)


def request_name(request: Request, own: str | None) -> str:
    """The client's `x-request-id`, else its body's `request_id`, else 64 random bits in hex, as vLLM names them."""
    given = request.headers.get(b"x-request-id")
    return given.decode("latin-1") if given else own or uuid4().hex[:16]


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
