"""All cases by group, and their recorded observations."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from contract import chat, completions, errors, serving, transfer
from contract.case import Case, Observation

GROUPS: dict[str, tuple[Case, ...]] = {
    "chat": chat.CASES,
    "completions": completions.CASES,
    "errors": errors.CASES,
    "serving": serving.CASES,
    "transfer": transfer.CASES,
}


FIXTURES = Path(__file__).parents[3] / "tests" / "contract" / "vllm-0.32"
ALL = tuple((group, case) for group, cases in GROUPS.items() for case in cases)


def name_of(named: tuple[str, Case]) -> str:
    """Test ids."""
    group, case = named
    return f"{group}: {case.name}"


@cache
def recorded(group: str) -> dict[str, Observation]:
    """What real vLLM gave, by case name."""
    cases: dict[str, Any] = json.loads((FIXTURES / f"{group}.json").read_text())["cases"]
    return cases


def record(folder: Path, group: str, version: str, cases: dict[str, Observation]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"engine": "vllm", "version": version, "cases": cases}, indent=1, ensure_ascii=False)
    (folder / f"{group}.json").write_text(text + "\n")
