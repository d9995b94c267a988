"""One line of JSON per request, written as requests end."""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson

from pointsman.loadgen.answer import Answer
from pointsman.sim.report import RequestResult
from pointsman.sim.workload.request import TraceRequest


class RecordFile:
    """Times are on the workload's clock, in seconds; prompt and answer text are not in it. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(
        self, index: int, request_id: str, request: TraceRequest, answer: Answer, result: RequestResult
    ) -> None:
        record = {
            "index": index,
            "request_id": request_id,
            "session_id": request.session_id or None,
            "program_id": request.program_id or None,
            "outcome": answer.outcome,
            "status": answer.status,
            "error": answer.error,
            "decision": answer.decision,
            "scheduled_s": request.arrival_s,
            "sent_s": result.arrival_s,
            "first_token_s": result.first_token_s,
            "last_token_s": result.last_token_s,
            "end_s": result.end_s,
            "ttft_s": result.ttft_s,
            "tpot_s": result.tpot_s,
            "e2e_s": result.end_s - result.arrival_s,
            "asked_prompt_tokens": request.prompt_tokens,
            "asked_output_tokens": request.output_tokens,
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "output_tokens": result.output_tokens,
            "meets_slo": None if result.slo is None else result.meets_slo,
        }
        self._file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
