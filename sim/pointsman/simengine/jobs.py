"""A job: one HTTP request's generation, its choices running as engine requests of their own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pointsman.sim.engine import EngineRequest, Output
from pointsman.simengine.answers import Answer
from pointsman.simengine.asgi import Outbox
from pointsman.simengine.errors import ApiError
from pointsman.simengine.wire import DONE, Usage, Wire


@dataclass(slots=True, eq=False)
class Run:
    """One choice of one prompt, in the engine."""

    job: "Job"
    answer: Answer
    prompt: int
    request: EngineRequest
    lora: str | None = None
    name: str = ""
    """What the server calls it, without what makes it unique."""
    pull_tokens: int = 0
    """Leading prompt tokens whose KV comes from another instance."""
    on_first_token: Callable[[], None] | None = None
    last_token_ps: int = 0
    finished: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """`outbox` is where events go; None: the answer is not streamed."""

    wire: Wire
    outbox: Outbox | None
    usage: Usage
    event_tokens: int
    """Tokens per event, bar the first and the last."""
    max_tokens: int
    choices_per_prompt: int
    runs: list[Run] = field(default_factory=list)
    kv_params: dict[str, Any] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    failure: ApiError | None = None
    opened: bool = False
    drop_after: int | None = None
    """A fault: the connection ends after so many tokens."""

    def progress(self, run: Run, output: Output) -> None:
        """An iteration gave a run some tokens."""
        run.finished = output.finished
        self.usage.completion_tokens += output.new_tokens
        generated = run.request.generated_tokens
        if self.outbox is not None:
            waiting = generated - run.answer.taken
            if output.finished or not run.answer.taken or waiting >= self.event_tokens:
                self._send(self.outbox, run, generated)
        if output.finished and all(each.finished for each in self.runs):
            self._complete()

    def _send(self, outbox: Outbox, run: Run, generated: int) -> None:
        if not self.opened:
            self.opened = True
            outbox.put(self.wire.opening(self.choices_per_prompt))
        outbox.put(self.wire.event(run.answer, run.prompt, run.answer.take(generated)))
        if self.drop_after is not None and self.usage.completion_tokens >= self.drop_after:
            outbox.close()

    def _complete(self) -> None:
        if self.outbox is not None:
            if self.wire.shown.usage:
                self.outbox.put(self.wire.usage_event(self.usage))
            self.outbox.put(DONE)
            self.outbox.close()
        self.done.set()

    def fail(self, failure: ApiError) -> None:
        """End with an error: in a stream an event followed, as vLLM does, by [DONE]."""
        self.failure = failure
        for run in self.runs:
            run.finished = True
        if self.outbox is not None:
            self.outbox.put(self.wire.error_event(failure) + DONE)
            self.outbox.close()
        self.done.set()

    def cut_short(self, reason: str) -> None:
        """End every answer where it is, as vLLM does when it is told to sleep or shuts down."""
        for run in self.runs:
            if not run.finished:
                run.answer.cut_short(reason)
                run.finished = True
                if self.outbox is not None:
                    self.outbox.put(
                        self.wire.event(run.answer, run.prompt, run.answer.take(run.answer.ending.tokens))
                    )
        self._complete()

    def leave(self) -> None:
        """Nobody waits for it any more."""
        if self.outbox is not None:
            self.outbox.close()
        self.done.set()

    @property
    def finished(self) -> bool:
        return self.done.is_set()

    def body(self) -> bytes:
        """The whole answer of a job that is not streamed and has finished."""
        choices = [
            self.wire.choice(run.answer, run.prompt, run.answer.take(run.answer.ending.tokens))
            for run in self.runs
        ]
        return self.wire.whole(choices, self.usage, self.kv_params)
