"""Measures iterations of a Llama with random weights on this machine's accelerator, for `pointsman profile fit`.

    python bench/gpu/measure.py --out points.csv                                  # Llama 3.1 8B, bfloat16, one GPU
    python bench/gpu/measure.py --shape tiny --device cpu --dtype float32 --out points.csv

Needs PyTorch 2.5 or newer and nothing else: copy this one file. An iteration is one pass over the tokens of all its
sequences, as an engine that batches continuously makes it: every matrix is multiplied once for the chunks of prompts and
for the sequences that decode alike, attention is computed for each of both, new keys and values are written to a
contiguous cache (no blocks), the last token of each sequence gets its logits and the greatest is taken. Prefill alone,
decode alone, and both in one iteration are measured: medians of repeats after a warm-up, by CUDA events where there is
CUDA. Beside the points, what they were measured on is written as JSON.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

Tensor = Any  # torch is not installed where types are checked
COLUMNS = (
    *("chunk_tokens", "context_before", "prefill_chunks"),
    *("decode_sequences", "decode_context", "time_ms"),
)
"""What `pointsman profile fit` reads."""
FREE_SHARE = 0.8
"""Of the memory that is left beside the weights: for keys and values; the rest is for activations."""
WARM_UPS = 2
SEED = 0


@dataclass(frozen=True)
class Shape:
    """Of a Llama: what its configuration file says."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    rope_theta: float = 500_000.0

    @property
    def kv_values_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head


SHAPES = {
    "llama-3.1-8b": Shape(32, 4096, 14336, 32, 8, 128, 128_256),
    "tiny": Shape(4, 256, 704, 8, 2, 32, 4096),
}


class Iteration(NamedTuple):
    """`chunks` prompts, of each `chunk` tokens computed after `before`; `sequences` decode a token of context `context`."""

    chunk: int
    before: int
    chunks: int
    sequences: int
    context: int

    @property
    def prefill_tokens(self) -> int:
        return self.chunks * self.chunk

    @property
    def kv_tokens(self) -> int:
        return self.chunks * (self.before + self.chunk) + self.sequences * self.context


class Llama:
    """Weights of unit gain, and a cache for `kv_tokens` tokens per layer."""

    def __init__(self, shape: Shape, device: str, dtype: Any, kv_tokens: int) -> None:
        self.shape = shape
        self.device = device
        generator = torch.Generator(device).manual_seed(SEED)

        def normal(rows: int, columns: int) -> Tensor:
            drawn = torch.empty(rows, columns, device=device, dtype=dtype)
            return drawn.normal_(std=columns**-0.5, generator=generator)

        width, kv_width = shape.heads * shape.head, shape.kv_heads * shape.head
        self.embedding = normal(shape.vocabulary, shape.hidden)
        self.head = normal(shape.vocabulary, shape.hidden)
        self.norm = torch.ones(shape.hidden, device=device, dtype=dtype)
        self.layers = [
            (
                normal(width + 2 * kv_width, shape.hidden),
                normal(shape.hidden, width),
                normal(2 * shape.inner, shape.hidden),
                normal(shape.hidden, shape.inner),
                torch.zeros(kv_tokens, shape.kv_heads * shape.head, device=device, dtype=dtype),
                torch.zeros(kv_tokens, shape.kv_heads * shape.head, device=device, dtype=dtype),
            )
            for _ in range(shape.layers)
        ]
        self._frequencies = shape.rope_theta ** (
            -torch.arange(0, shape.head, 2, device=device, dtype=torch.float32) / shape.head
        )

    def step(self, iteration: Iteration, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits of each prompt's last token and of each sequence that decodes."""
        angles = positions[:, None] * self._frequencies
        turn = torch.cat((angles, angles), dim=-1)
        x = self.embedding[ids]
        cosine, sine = turn.cos().to(x.dtype)[:, None], turn.sin().to(x.dtype)[:, None]
        for qkv, out, gate_up, down, keys, values in self.layers:
            mixed = linear(self._normed(x), qkv)
            x = x + linear(self._attend(iteration, mixed, (keys, values), (cosine, sine)), out)
            gate, up = linear(self._normed(x), gate_up).chunk(2, dim=-1)
            x = x + linear(silu(gate) * up, down)
        return linear(self._normed(self._last_rows(iteration, x)), self.head)

    def _normed(self, x: Tensor) -> Tensor:
        return rms_norm(x, (self.shape.hidden,), self.norm, 1e-5)

    def _last_rows(self, iteration: Iteration, x: Tensor) -> Tensor:
        split = iteration.prefill_tokens
        if not split:
            return x
        last = x[:split].view(iteration.chunks, iteration.chunk, -1)[:, -1]
        return torch.cat((last, x[split:]))

    def _attend(
        self,
        iteration: Iteration,
        qkv: Tensor,
        cache: tuple[Tensor, Tensor],
        turn: tuple[Tensor, Tensor],
    ) -> Tensor:
        shape = self.shape
        width, kv_width = shape.heads * shape.head, shape.kv_heads * shape.head
        q, k, v = qkv.split((width, kv_width, kv_width), dim=-1)
        q = _turned(q.view(-1, shape.heads, shape.head), turn)
        k = _turned(k.view(-1, shape.kv_heads, shape.head), turn)
        v = v.view(-1, shape.kv_heads, shape.head)
        split, held = iteration.prefill_tokens, iteration.chunks * (iteration.before + iteration.chunk)
        parts = []
        if iteration.chunks:
            rooms = [self._room(room[:held], iteration.chunks) for room in cache]
            news = [new[:split].view(iteration.chunks, iteration.chunk, *new.shape[1:]) for new in (q, k, v)]
            parts.append(_attended(news[0], news[1], news[2], rooms[0], rooms[1]))
        if iteration.sequences:
            rooms = [self._room(room[held : iteration.kv_tokens], iteration.sequences) for room in cache]
            news = [new[split:, None] for new in (q, k, v)]
            parts.append(_attended(news[0], news[1], news[2], rooms[0], rooms[1]))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _room(self, tokens: Tensor, sequences: int) -> Tensor:
        """[sequence, head, token, value]."""
        return tokens.view(sequences, self.shape.kv_heads, -1, self.shape.head)


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (Su et al. 2021), halves apart as in Llama."""
    first, second = x.chunk(2, dim=-1)
    return x * turn[0] + torch.cat((-second, first), dim=-1) * turn[1]


def _attended(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Writes the new keys and values behind those that are there. q, k, v: [sequence, token, head, value]."""
    new, held = k.shape[1], keys.shape[2]
    keys[:, :, held - new :] = k.transpose(1, 2)
    values[:, :, held - new :] = v.transpose(1, 2)
    mask = causal_lower_right(new, held) if 1 < new < held else None
    found = scaled_dot_product_attention(
        q.transpose(1, 2), keys, values, attn_mask=mask, is_causal=new == held > 1, enable_gqa=True
    )
    return found.transpose(1, 2).reshape(q.shape[0] * new, -1)


class Bench:
    """Times iterations of one model."""

    def __init__(self, model: Llama, repeats: int, *, graphs: bool) -> None:
        self.model = model
        self._repeats = repeats
        self._graphs = graphs

    def time_ms(self, iteration: Iteration) -> float:
        """The median of repeats."""
        run = self._runner(iteration)
        for _ in range(WARM_UPS):
            run()
        return statistics.median(self._once_ms(run) for _ in range(self._repeats))

    def _runner(self, iteration: Iteration) -> Callable[[], object]:
        ids, positions = inputs(iteration, self.model)

        def run() -> Tensor:
            return self.model.step(iteration, ids, positions).argmax(dim=-1)

        if not self._graphs or iteration.chunks:
            return run
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()  # what is set up lazily is set up outside of the graph
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay  # type: ignore[no-any-return]

    def _once_ms(self, run: Callable[[], object]) -> float:
        if self.model.device != "cuda":
            start_s = time.perf_counter()
            run()
            return (time.perf_counter() - start_s) * 1e3
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


def inputs(iteration: Iteration, model: Llama) -> tuple[Tensor, Tensor]:
    """Token ids and positions of an iteration, prompts first."""
    of_prompt = torch.arange(iteration.before, iteration.before + iteration.chunk).repeat(iteration.chunks)
    positions = torch.cat((of_prompt, torch.full((iteration.sequences,), iteration.context - 1)))
    ids = torch.arange(len(positions)) * 7919 % model.shape.vocabulary
    return ids.to(model.device), positions.to(model.device)


def grid(longest_chunk: int, most_sequences: int, longest_context: int) -> Iterator[Iteration]:
    """Powers of two up to what is asked for: each phase by itself, several prompts at once, and both phases mixed."""
    chunks = _powers(16, longest_chunk)
    batches = _powers(1, most_sequences)
    contexts = _powers(64, longest_context)
    for chunk, before in product(chunks, (0, *contexts[-1:], *contexts[2:-1:2])):
        yield Iteration(chunk, before, 1, 0, 0)
    for chunk, prompts in product(chunks[::2], (2, 4)):
        yield Iteration(chunk, 0, prompts, 0, 0)
    for batch, context in product(batches, contexts):
        yield Iteration(0, 0, 0, batch, context)
    for chunk, batch, context in product(chunks, batches[2::2], contexts[1::2]):
        yield Iteration(chunk, 0, 1, batch, context)


def _powers(least: int, most: int) -> list[int]:
    return [least << shift for shift in range(64) if least << shift <= most]


def agree(model: Llama) -> float:
    """Greatest difference, as a share of the greatest logit, of a prompt computed at once, in two chunks, and its last
    token by decoding: whether chunks, cache and positions are what they should be.
    """
    tokens, split = 24, 10
    ids, positions = inputs(Iteration(tokens, 0, 1, 0, 0), model)
    whole = model.step(Iteration(tokens, 0, 1, 0, 0), ids, positions)
    room = [(keys, values) for *_, keys, values in model.layers]
    kept = [(keys[:tokens].clone(), values[:tokens].clone()) for keys, values in room]
    found = []
    for before, iteration in (
        (split, Iteration(tokens - split, split, 1, 0, 0)),
        (tokens - 1, Iteration(0, 0, 0, 1, tokens)),
    ):
        for (keys, values), (old_keys, old_values) in zip(room, kept, strict=True):
            for cache, old in ((keys, old_keys), (values, old_values)):
                cache[:tokens] = old
                model._room(cache[:tokens], 1)[:, :, before:] = 0
        found.append(model.step(iteration, ids[before:], positions[before:]))
    return max(float((logits - whole).abs().max() / whole.abs().max()) for logits in found)


def kv_room(shape: Shape, device: str, item_bytes: int, asked: int | None) -> int:
    """Tokens of keys and values: what was asked for, or what the accelerator's free memory holds beside the weights."""
    if asked or device != "cuda":
        return asked or 65_536
    width, kv_width = shape.heads * shape.head, shape.kv_heads * shape.head
    per_layer = shape.hidden * (2 * width + 2 * kv_width + 3 * shape.inner)
    weights = item_bytes * (shape.layers * per_layer + 2 * shape.vocabulary * shape.hidden)
    free_bytes = torch.cuda.mem_get_info()[0] - weights
    return int(FREE_SHARE * free_bytes / (item_bytes * shape.kv_values_per_token))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="CSV of points; facts go beside it as .json")
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.1-8b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--longest-chunk", type=int, default=8192, metavar="TOKENS")
    parser.add_argument("--most-sequences", type=int, default=256)
    parser.add_argument("--longest-context", type=int, default=16_384, metavar="TOKENS")
    parser.add_argument(
        "--kv-tokens", type=int, help="room for KV; default: what memory holds, on a CPU 65,536"
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cuda-graphs", action="store_true", help="replay decode from captured graphs")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument(
        "--verify", action="store_true", help="hold chunks and decoding against a whole prompt first"
    )
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is to be seen; --device cpu --shape tiny tries the program itself")
    if asked.cuda_graphs and asked.device != "cuda":
        parser.error("--cuda-graphs needs --device cuda")
    return asked


@torch.inference_mode()  # type: ignore[untyped-decorator]
def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    shape, dtype = SHAPES[asked.shape], getattr(torch, asked.dtype)
    kv_tokens = kv_room(shape, asked.device, dtype.itemsize, asked.kv_tokens)
    model = Llama(shape, asked.device, dtype, kv_tokens)
    facts = {
        "device": torch.cuda.get_device_name() if asked.device == "cuda" else platform.machine() + " CPU",
        "dtype": asked.dtype,
        "torch": torch.__version__,
        "shape": asked.shape,
        **{f"shape_{key}": value for key, value in asdict(shape).items()},
        "kv_tokens": kv_tokens,
        "kv_layout": "contiguous",
        "repeats": asked.repeats,
        "cuda_graphs_for_decode": asked.cuda_graphs,
        "threads": asked.threads if asked.device == "cpu" else None,
    }
    print(json.dumps(facts), file=sys.stderr)
    if asked.verify:
        print(f"chunks and decoding differ from a whole prompt by {agree(model):.1e}", file=sys.stderr)
    wanted = list(grid(asked.longest_chunk, asked.most_sequences, asked.longest_context))
    fitting = [iteration for iteration in wanted if iteration.kv_tokens <= kv_tokens]
    print(f"{len(fitting)} points; {len(wanted) - len(fitting)} find no room for their KV", file=sys.stderr)
    bench = Bench(model, asked.repeats, graphs=asked.cuda_graphs)
    with asked.out.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for iteration in fitting:
            file.write(",".join(map(str, iteration)) + f",{bench.time_ms(iteration):.6g}\n")
            file.flush()
    facts |= {"points": len(fitting), "left_out_for_room": len(wanted) - len(fitting)}
    asked.out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    source = f"bench/gpu/measure.py, {asked.shape} with random weights, {facts['device']}, {asked.dtype}"
    print(f"pointsman profile fit {asked.out} --name NAME --like PROFILE --source '{source}'")


if __name__ == "__main__":
    main()
