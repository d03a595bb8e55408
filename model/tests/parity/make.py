"""Makes the parity fixtures: tiny random checkpoints, and what `transformers` computes with them.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 transformers==5.23.0
    venv/bin/python model/tests/parity/make.py

Weights are drawn wide, so that a wrong angle, mask or norm shows by whole units.
"""
import json
import pathlib
import shutil

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast,
    Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)

HERE = pathlib.Path(__file__).parent
VOCAB = 320
TEXT = """
A policy samples an answer, a verifier reads it, and a learner takes one step. Numbers such as 12, 1,024 and 3.5 come with
units; names come with accents: Zoë, Jürgen, naïve. def f(x): return {"a": [1, 2], 'b': x ** 2}
""" * 4
SHAPE = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, eos_token_id=[1, 2], pad_token_id=0, bos_token_id=None,
    attn_implementation="eager",
)
ROPE = {
    "linear": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    "llama3": {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64},
    "yarn-tuned": {
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 8.0, "original_max_position_embeddings": 32,
        "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.8, "mscale_all_dim": 0.5, "truncate": False,
    },
}
QWEN2 = (Qwen2Config, Qwen2ForCausalLM)
QWEN3 = (Qwen3Config, Qwen3ForCausalLM)
LLAMA = (LlamaConfig, LlamaForCausalLM)
# name: (classes, options, type of the file, largest shard, spelling of rope)
CASES = {
    "qwen2": (QWEN2, dict(tie_word_embeddings=True), torch.float32, None, "new"),
    "qwen2-untied-bf16": (QWEN2, dict(tie_word_embeddings=False), torch.bfloat16, None, "new"),
    "qwen2-window": (
        QWEN2, dict(tie_word_embeddings=True, use_sliding_window=True, sliding_window=16, max_window_layers=1),
        torch.float32, None, "new",
    ),
    "qwen2-yarn": (QWEN2, dict(tie_word_embeddings=True, rope_parameters=ROPE["yarn"]), torch.float32, None, "old"),
    "qwen3": (QWEN3, dict(tie_word_embeddings=True, head_dim=16), torch.float32, None, "new"),
    "qwen3-untied-f16": (QWEN3, dict(tie_word_embeddings=False, head_dim=24), torch.float16, None, "new"),
    "qwen3-window": (
        QWEN3,
        dict(
            tie_word_embeddings=True, head_dim=16, use_sliding_window=True, sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        torch.float32, None, "new",
    ),
    "qwen3-yarn-tuned": (
        QWEN3, dict(tie_word_embeddings=True, head_dim=16, rope_parameters=ROPE["yarn-tuned"]), torch.float32, None, "new",
    ),
    "llama-sharded": (LLAMA, dict(tie_word_embeddings=False), torch.float32, 60_000, "new"),
    "llama-llama3": (LLAMA, dict(tie_word_embeddings=True, rope_parameters=ROPE["llama3"]), torch.float32, None, "old"),
    "llama-linear": (LLAMA, dict(tie_word_embeddings=True, rope_parameters=ROPE["linear"]), torch.float32, None, "old"),
    "llama-dynamic": (LLAMA, dict(tie_word_embeddings=True, rope_parameters=ROPE["dynamic"]), torch.float32, None, "new"),
}
CHATML = (
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)
# Like DeepSeek-R1's: earlier reasoning is cut away, and the assistant's turn begins with an opened <think>.
REASONER = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(system='') %}"
    "{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.system = m['content'] %}{% endif %}{% endfor %}"
    "{{ bos_token }}{{ ns.system }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '<|im_start|>' + m['content'] | trim }}{% endif %}"
    "{% if m['role'] == 'assistant' %}"
    "{% set content = m['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip() %}{% endif %}"
    "{{ '<|im_end|>' + content + eos_token }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_end|><think>\\n' }}{% endif %}"
)
CHATS = [
    [{"role": "user", "content": "  What is 2 + 2?\n"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Zoë asks: naïve?"}],
    [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n  The answer is \\boxed{4}."},
        {"role": "user", "content": "again <|im_end|>"},
    ],
]


def tokenizer():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False, initial_alphabet=alphabet, special_tokens=special)
    tok.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def chats():
    golden = []
    for name, template in [("chatml", CHATML), ("reasoner", REASONER)]:
        tok = tokenizer()
        tok.chat_template = template
        folder = HERE / f"tokenizer-{name}"
        tok.save_pretrained(folder)
        tok = AutoTokenizer.from_pretrained(folder)
        for messages in CHATS:
            for generate in [False, True]:
                text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
                ids = tok.apply_chat_template(messages, tokenize=True, add_generation_prompt=generate)["input_ids"]
                golden.append(dict(tokenizer=name, messages=messages, generate=generate, text=text, ids=ids))
    (HERE / "chats.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


def widen(model, seed):
    """Draws every weight anew: matrices wide, norms around 1, biases around 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        scale, centre = (0.25, 0.0) if p.dim() > 1 else (0.3, 1.0) if "norm" in name else (0.5, 0.0)
        p.data.copy_(noise * scale + centre)


def log_probs(model, tokens):
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens)[1:, None])[:, 0]


def spell(path, spelling):
    """Rewrites config.json as older versions of the library wrote rope settings."""
    config = json.loads(path.read_text())
    if spelling == "old":
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        rope["type"] = rope["rope_type"]
        config["rope_scaling"] = rope
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def case(name, seed):
    (config, cls), options, dtype, shard, spelling = CASES[name]
    torch.manual_seed(seed)
    model = cls(config(**SHAPE, **options)).eval()
    widen(model, seed)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    truth = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(5, VOCAB, (200,), generator=generator).tolist()
    prompt = tokens[:12]
    greedy = list(prompt)
    with torch.no_grad():
        for _ in range(64):
            greedy.append(int(truth(torch.tensor([greedy])).logits[0, -1].argmax()))
    golden = dict(
        tokens=tokens, logprobs=[round(x, 6) for x in log_probs(truth, tokens).tolist()],
        bfloat16_error=(log_probs(half, tokens) - log_probs(truth, tokens)).abs().mean().item(),
        prompt=prompt, greedy=greedy[len(prompt):],
    )
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    spell(folder / "config.json", spelling)
    print(name, "log p down to", min(golden["logprobs"]), "bfloat16 error", golden["bfloat16_error"])


if __name__ == "__main__":
    chats()
    for i, name in enumerate(CASES):
        case(name, 100 + i)
