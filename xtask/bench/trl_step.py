"""Times whole GRPO steps of TRL, and prints one JSON object.

The work is that of `sinternal bench step`: a number of chat prompts, a group of completions for each, all of the same
length because end-of-text is ruled out, a reward that costs nothing, one update. TRL's own defaults stay as they are
(gradient checkpointing is one); beta is 0, so that there is no reference pass on either side.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import contextlib
import json
import platform
import random
import resource
import statistics
import sys
import tempfile
import time

import datasets
import torch
import transformers
import trl

VOCABULARY = "add two numbers then say why this answer is safe or should be refused by a careful model that checks itself"


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="checkpoint folder with tokenizer and chat template")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), required=True)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--prompt-words", type=int, default=40)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="timed steps, after one that warms up")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def prompts(count, words, seed):
    """`count` chats of one user turn each."""
    draw = random.Random(seed)
    turns = (" ".join(draw.choice(VOCABULARY.split()) for _ in range(words)) for _ in range(count))
    return datasets.Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in turns])


class Clock(transformers.TrainerCallback):
    """Seconds from the beginning of a step, before its completions are sampled, to after the optimizer."""

    def __init__(self):
        self.seconds, self.began = [], None

    def on_step_begin(self, args, state, control, **_):
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        self.seconds.append(time.perf_counter() - self.began)


class Timed(trl.GRPOTrainer):
    """Notes what sampling took, with the rewards and advantages that TRL computes in the same call, and its work."""

    def _generate_and_score_completions(self, inputs):
        began = time.perf_counter()
        batch = super()._generate_and_score_completions(inputs)
        tokens = {name: batch[f"{name}_mask"].sum().item() for name in ("prompt", "completion")}
        self.sampled.append({"seconds": time.perf_counter() - began, **tokens})
        return batch


def trainer(args, folder):
    sequences, draw = args.prompts * args.group, random.Random(args.seed)
    config = trl.GRPOConfig(
        output_dir=folder,
        seed=args.seed,
        use_cpu=not torch.cuda.is_available(),
        model_init_kwargs={"dtype": args.dtype},
        bf16=args.dtype == "bfloat16",
        per_device_train_batch_size=sequences,
        num_generations=args.group,
        max_steps=args.steps + 1,
        max_completion_length=args.new_tokens,
        generation_kwargs={"min_new_tokens": args.new_tokens},
        temperature=1.0,
        beta=0.0,
        learning_rate=1e-6,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    made = Timed(
        model=args.model,
        args=config,
        reward_funcs=lambda completions, **_: [draw.random() for _ in completions],
        train_dataset=prompts(args.prompts * config.max_steps, args.prompt_words, args.seed),
    )
    made.sampled = []
    return made


def measure(args):
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        peer = trainer(args, folder)
        peer.add_callback(clock)
        peer.train()
    sequences = args.prompts * args.group
    for step in peer.sampled:
        if step["completion"] != sequences * args.new_tokens:
            sys.exit(f"error: a step sampled {step['completion']} tokens instead of {sequences} x {args.new_tokens}")
    timed = list(zip(clock.seconds, peer.sampled, strict=True))[1:]
    generate = statistics.median(sampled["seconds"] for _, sampled in timed)
    gpu = torch.cuda.is_available()
    return {
        "peer": "trl",
        "dtype": args.dtype,
        "sequences": sequences,
        "prompt_tokens": statistics.mean(sampled["prompt"] for _, sampled in timed) / sequences,
        "new_tokens": args.new_tokens,
        "step_s": statistics.median(step for step, _ in timed),
        "generate_s": generate,
        "update_s": statistics.median(step - sampled["seconds"] for step, sampled in timed),
        "generated_tokens_per_s": sequences * args.new_tokens / generate,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20 if gpu else None,
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (torch, transformers, trl)},
        },
    }


def main():
    args = options()
    torch.set_num_threads(args.threads)
    # Standard output is for the result; libraries print there too.
    with contextlib.redirect_stdout(sys.stderr):
        result = measure(args)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
