"""The tokens of one request: each generated one is a function of all before it, of the model and of the seed.

The state before token n is `xxh3_64(the tokens since the last multiple of 16, seed=state at that multiple)`, and the
chain starts from a hash of model, adapter, salt and seed. So whoever continues a sequence from its token ids, on
whatever engine, gets exactly the tokens the first engine would have given; and the state at a block's end is also the
block's content hash, covering everything before it.
"""

import sys
from array import array
from collections.abc import Sequence as AnySequence

from xxhash import xxh3_64_intdigest

from pointsman.simengine import tokenizer

_CHUNK = 16
_NEVER = sys.maxsize
_HAZARD_BITS = 20


def _generated_words() -> tuple[int, ...]:
    onsets, vowels, codas = b"bdfghjklmnprstvwz", b"aeiou", b"lmnr"
    return tuple(
        tokenizer.group_id(bytes((0x20, onset, vowel, coda)))
        for onset in onsets
        for vowel in vowels
        for coda in codas
    )


WORDS = _generated_words()
"""What engines generate: a space and a syllable, four characters, one token each."""


def root_state(*identity: str | int) -> int:
    """Start of the chain for whatever must tell two sequences apart: model, adapter, cache salt, seed, choice."""
    return xxh3_64_intdigest("\x00".join(map(str, identity)).encode())


class EndRule:
    """When a sequence ends by itself: at a wanted length, or by chance at each token (a geometric length)."""

    __slots__ = ("at", "first", "threshold")

    def __init__(self, *, mean_tokens: float, first: int = 0, at: int | None = None) -> None:
        """`mean_tokens`: mean length of an answer that ends by chance, 0: it never does; `first`: the first
        generated position that may be an end; `at`: the position that is the end, instead of chance.
        """
        self.threshold = 0 if at is not None or not mean_tokens else round((1 << _HAZARD_BITS) / mean_tokens)
        self.first = first
        self.at = _NEVER if at is None else at

    @classmethod
    def never(cls) -> "EndRule":
        return cls(mean_tokens=0)


class TokenSequence:
    """Prompt and answer so far; grows on demand."""

    __slots__ = ("_chain", "_end_rule", "_tokens", "prompt_tokens")

    def __init__(self, root: int, prompt: AnySequence[int], end_rule: EndRule) -> None:
        self._tokens = array("I", prompt)
        self.prompt_tokens = len(prompt)
        self._end_rule = end_rule
        data = self._tokens.tobytes()
        state, stride = root, _CHUNK * self._tokens.itemsize
        self._chain = [state]
        for at in range(0, len(data) - stride + 1, stride):
            state = xxh3_64_intdigest(data[at : at + stride], seed=state)
            self._chain.append(state)

    def generated(self, start: int, stop: int) -> list[int]:
        """Generated tokens by position in the answer."""
        self._grow(self.prompt_tokens + stop)
        return self._tokens[self.prompt_tokens + start : self.prompt_tokens + stop].tolist()

    def prompt(self) -> list[int]:
        return self._tokens[: self.prompt_tokens].tolist()

    def state(self, position: int) -> int:
        """Hash of the first `position` tokens."""
        self._grow(position)
        whole = position - position % _CHUNK
        if whole == position:
            return self._chain[position // _CHUNK]
        return xxh3_64_intdigest(self._tokens[whole:position].tobytes(), seed=self._chain[whole // _CHUNK])

    def tokens(self, start: int, stop: int) -> list[int]:
        """Tokens by position in prompt and answer together."""
        self._grow(stop)
        return self._tokens[start:stop].tolist()

    def _grow(self, length: int) -> None:
        tokens, chain, rule = self._tokens, self._chain, self._end_rule
        words, count = WORDS, len(WORDS)
        for position in range(len(tokens), length):
            in_chunk = position % _CHUNK
            state = chain[-1]
            if in_chunk:
                state = xxh3_64_intdigest(tokens[position - in_chunk :].tobytes(), seed=state)
            answered = position - self.prompt_tokens
            if answered == rule.at or (
                (state & ((1 << _HAZARD_BITS) - 1)) < rule.threshold and answered >= rule.first
            ):
                tokens.append(tokenizer.END)
            else:
                tokens.append(words[(state >> _HAZARD_BITS) % count])
            if in_chunk == _CHUNK - 1:
                chain.append(xxh3_64_intdigest(tokens[position - in_chunk :].tobytes(), seed=chain[-1]))
