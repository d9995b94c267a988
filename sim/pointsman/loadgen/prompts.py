"""Prompts of a wanted length in tokens, with shared prefixes where the trace has them.

They are made of three-letter English words with a space before each. Every one of them is a single token in the
byte-pair vocabularies in use (GPT-2, Llama, Qwen, Mistral), and 4 bytes, which is also what estimates by length
assume: a prompt of n words is about n tokens for all of them.
"""

from functools import lru_cache
from random import Random

from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest

WORDS = tuple(
    " " + word
    for word in [
        "act",
        "add",
        "age",
        "ago",
        "aid",
        "air",
        "all",
        "and",
        "any",
        "are",
        "arm",
        "art",
        "ask",
        "bad",
        "bag",
        "bar",
        "bed",
        "bet",
        "big",
        "bit",
        "box",
        "boy",
        "bus",
        "but",
        "buy",
        "can",
        "car",
        "cat",
        "cup",
        "cut",
        "day",
        "did",
        "die",
        "dog",
        "dry",
        "due",
        "ear",
        "eat",
        "end",
        "eye",
        "far",
        "fat",
        "few",
        "fit",
        "fly",
        "for",
        "fun",
        "gas",
        "get",
        "god",
        "got",
        "gun",
        "had",
        "has",
        "her",
        "him",
        "his",
        "hit",
        "hot",
        "how",
        "ice",
        "its",
        "job",
        "key",
        "kid",
        "law",
        "lay",
        "led",
        "leg",
        "let",
        "lie",
        "lot",
        "low",
        "man",
        "map",
        "may",
        "men",
        "met",
        "mix",
        "new",
        "nor",
        "not",
        "now",
        "oil",
        "old",
        "one",
        "our",
        "out",
        "own",
        "pay",
        "per",
        "put",
        "ran",
        "raw",
        "red",
        "run",
        "sad",
        "sat",
        "saw",
        "say",
        "sea",
        "see",
        "set",
        "she",
        "sit",
        "six",
        "sky",
        "son",
        "sun",
        "tax",
        "tea",
        "ten",
        "the",
        "tie",
        "too",
        "top",
        "try",
        "two",
        "use",
        "van",
        "via",
        "war",
        "was",
        "way",
        "who",
        "why",
        "win",
        "yes",
        "yet",
        "you",
    ]
)
WORD_BYTES = 4
CORPUS_WORDS = 1 << 16
UNIQUE_WORDS = 16
"""So many words at a prompt's start tell requests apart; no cache shares anything behind a different start."""
CACHED_BLOCKS = 4096


class PromptWriter:
    """Writes the prompts of one run; `salt` keeps them apart from those of other runs, which caches may still hold."""

    def __init__(self, salt: str) -> None:
        self._salt = salt
        self._corpus = "".join(Random(salt).choices(WORDS, k=CORPUS_WORDS))
        self._block = lru_cache(CACHED_BLOCKS)(self._write_block)

    def write(self, index: int, request: TraceRequest) -> str:
        """The prompt of the run's `index`-th request: the trace's own, else one of `prompt_tokens` words."""
        if request.prompt is not None:
            return request.prompt
        if not request.hash_ids:
            return self._unique(index, request.prompt_tokens)
        shared = "".join(map(self._block, request.hash_ids))[: request.prompt_tokens * WORD_BYTES]
        return shared + self._unique(index, request.prompt_tokens - len(shared) // WORD_BYTES)

    def _unique(self, index: int, words: int) -> str:
        start = self._words(f"request {index}", min(words, UNIQUE_WORDS))
        rest = words - UNIQUE_WORDS
        if rest <= 0:
            return start
        offset = index * 977 % CORPUS_WORDS * WORD_BYTES
        corpus = self._corpus[offset : offset + rest * WORD_BYTES]
        while len(corpus) < rest * WORD_BYTES:
            corpus += self._corpus[: rest * WORD_BYTES - len(corpus)]
        return start + corpus

    def _write_block(self, hash_id: int) -> str:
        return self._words(f"block {hash_id}", HASH_BLOCK_TOKENS)

    def _words(self, purpose: str, count: int) -> str:
        return "".join(Random(f"{self._salt} {purpose}").choices(WORDS, k=count))
