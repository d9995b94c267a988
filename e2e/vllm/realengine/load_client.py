"""vLLM's own load client, `vllm bench serve`: what it measured of one load on one address."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realengine.engine import MODEL
from realengine.environment import Environment


@dataclass(frozen=True, slots=True)
class BenchServe:
    """Random prompts, all different for each `seed`; answers of a fixed length; Poisson arrivals."""

    requests: int = 60
    per_s: float = 4.0
    prompt_tokens: int = 256
    output_tokens: int = 48

    def run(self, url: str, seed: int, environment: Environment, result: Path) -> dict[str, Any]:
        """The client's own report, which is kept in `result`, and what it said beside it.

        Raises CalledProcessError.
        """
        command = [
            *(str(environment.python), "-m", "vllm.entrypoints.cli.main", "bench", "serve"),
            *("--backend", "openai", "--base-url", url, "--model", MODEL),
            *("--tokenizer", str(environment.model), "--dataset-name", "random", "--ignore-eos"),
            *("--random-input-len", str(self.prompt_tokens), "--random-output-len", str(self.output_tokens)),
            *("--num-prompts", str(self.requests), "--request-rate", str(self.per_s), "--seed", str(seed)),
            *("--save-result", "--result-filename", str(result)),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=result.parent)
        result.with_suffix(".txt").write_text(done.stdout + done.stderr)
        done.check_returncode()
        report: dict[str, Any] = json.loads(result.read_text())
        return report
