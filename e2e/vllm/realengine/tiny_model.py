"""Makes the model that the real engines serve: a tiny Llama whose weights are random.

Runs under the engines' own interpreter (it needs `tokenizers`): `python tiny_model.py FOLDER`.

The weights are drawn here and not by the engine (`--load-format dummy`): its own are so small that attention adds next
to nothing, the answer depends on the last token alone, and a wrong KV transfer would go unnoticed. The tokenizer is a
byte-level BPE trained on the sources of the standard library, so nothing is downloaded.
"""

import argparse
import json
import sysconfig
from pathlib import Path
from typing import Any

VOCABULARY = 4096
CONTEXT_TOKENS = 2048
SPECIAL_TOKENS = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
BEGIN, END = 1, 2

CHAT_TEMPLATE = (
    "<|begin|>"
    "{% if tools %}<|system|>{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% elif message['content'] %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT_TOKENS,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": BEGIN,
    "eos_token_id": END,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}


def training_texts(limit_bytes: int = 3_000_000) -> list[str]:
    """Top-level modules of the standard library, in order of name, up to `limit_bytes`."""
    texts, total = [], 0
    for source in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = source.read_text(encoding="utf-8", errors="replace")
        texts.append(text)
        total += len(text)
        if total >= limit_bytes:
            break
    return texts


def train_tokenizer(folder: Path) -> None:
    # Only the engines' environment has this library.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def draw_weights(folder: Path, seed: int = 0) -> None:
    """Normal weights that keep every layer's output near unit variance; logits with a deviation of about 3."""
    # Only the engines' environment has these libraries.
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    hidden, inner = LLAMA["hidden_size"], LLAMA["intermediate_size"]
    keys = LLAMA["num_key_value_heads"] * LLAMA["head_dim"]

    def normal(rows: int, columns: int, gain: float = 1.0) -> Any:
        return (rng.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)

    ones = np.ones(hidden, np.float32)
    weights = {
        "model.embed_tokens.weight": normal(VOCABULARY, hidden, gain=np.sqrt(hidden)),
        "model.norm.weight": ones,
        "lm_head.weight": normal(VOCABULARY, hidden, gain=3.0),
    }
    for layer in range(LLAMA["num_hidden_layers"]):
        of_layer = {
            "input_layernorm": ones,
            "post_attention_layernorm": ones,
            "self_attn.q_proj": normal(hidden, hidden, gain=2.0),
            "self_attn.k_proj": normal(keys, hidden, gain=2.0),
            "self_attn.v_proj": normal(keys, hidden, gain=2.0),
            "self_attn.o_proj": normal(hidden, hidden, gain=2.0),
            "mlp.gate_proj": normal(inner, hidden),
            "mlp.up_proj": normal(inner, hidden),
            "mlp.down_proj": normal(hidden, inner),
        }
        weights |= {f"model.layers.{layer}.{name}.weight": weight for name, weight in of_layer.items()}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer(folder)
    draw_weights(folder)
    write_json(folder / "config.json", LLAMA)
    write_json(folder / "generation_config.json", {"bos_token_id": BEGIN, "eos_token_id": END})
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": "<|end|>",
            "pad_token": "<|pad|>",
            "model_max_length": CONTEXT_TOKENS,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
