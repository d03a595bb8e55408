"""Losses and gradients of every objective by the formulas of the papers and of TRL, for the tests beside this file.

    python trainer/src/algorithm/golden/make.py > trainer/src/algorithm/golden/losses.json

Padded batches, whole sequences and float64 here; chunks of packed tokens and float32 there. Needs torch alone.
"""

import json

import torch

SEED = 11
LENGTHS = [1, 7, 3, 12, 5, 9]
LIMIT = 16  # the longest completion allowed
LOW, HIGH = 0.2, 0.28

torch.manual_seed(SEED)
ROWS, WIDTH = len(LENGTHS), max(LENGTHS)
MASK = (torch.arange(WIDTH)[None, :] < torch.tensor(LENGTHS)[:, None]).double()


def draw(scale, shift=0.0):
    """Values that float32 holds exactly."""
    return (torch.randn(ROWS, WIDTH) * scale + shift).double()


OLD = draw(0.6, -2.0)
# Sequences drift as a whole too, or no sequence's ratio would clip.
NEW = (OLD + draw(0.3) + torch.randn(ROWS, 1) * 0.4).float().double()
BEHAVIOUR = (OLD + draw(0.6)).float().double()
REFERENCE = (OLD + draw(0.3)).float().double()
ENTROPY = draw(0.2, 1.5)
ADVANTAGES = torch.randn(ROWS).double()[:, None]


def weight(aggregation):
    """How much each token counts (the four `loss_type`s of TRL that differ in it)."""
    lengths = MASK.sum(-1, keepdim=True)
    each = {
        "token-mean": 1 / MASK.sum(),
        "sequence-mean-token-mean": 1 / (ROWS * lengths),
        "sequence-mean-token-sum": torch.tensor(1 / ROWS),
        "fixed-length": torch.tensor(1 / (ROWS * LIMIT)),
    }
    return each[aggregation].double() * MASK


def clipped_surrogate(ratio, dual=None):
    gain = torch.minimum(ratio * ADVANTAGES, ratio.clamp(1 - LOW, 1 + HIGH) * ADVANTAGES)
    if dual is not None:
        gain = torch.where(ADVANTAGES < 0, torch.maximum(gain, dual * ADVANTAGES), gain)
    return -gain


def surrogate(case, new):
    log_ratio = new - OLD
    if case["objective"] == "clip":
        return clipped_surrogate(log_ratio.exp(), case.get("dual_clip"))
    if case["objective"] == "gspo":
        # One ratio a sequence, and the gradient through all of its tokens.
        mean = (log_ratio * MASK).sum(-1, keepdim=True) / MASK.sum(-1, keepdim=True)
        if "importance" in case:
            # Weights of tokens, as advantages of tokens: GSPO-token (section 4.3), else a masked token would still learn.
            return clipped_surrogate(mean.exp().detach() * (new - new.detach()).exp())
        return clipped_surrogate(mean.exp()).expand(-1, WIDTH)
    assert case["objective"] == "cispo"
    return -log_ratio.exp().clamp(max=1 + HIGH).detach() * ADVANTAGES * new


def importance(case):
    ratio = (OLD - BEHAVIOUR).exp()
    kind = case["importance"]["kind"]
    if kind == "truncate":
        return ratio.clamp(max=case["importance"]["cap"])
    low, high = case["importance"]["low"], case["importance"]["high"]
    return torch.where((ratio < low) | (ratio > high), 0.0, ratio)


def penalty(estimator, new):
    d = REFERENCE - new
    return {"k1": -d, "k2": d**2 / 2, "k3": d.exp() - d - 1}[estimator]


def evaluate(case):
    new, entropy = NEW.clone().requires_grad_(), ENTROPY.clone().requires_grad_()
    losses = surrogate(case, new)
    if "importance" in case:
        losses = losses * importance(case)
    if "kl" in case:
        losses = losses + case["kl"] * penalty(case["kl_estimator"], new)
    losses = losses - case.get("entropy", 0.0) * entropy
    loss = (losses * weight(case["aggregation"])).sum()
    loss.backward()
    of_entropy = entropy.grad if entropy.grad is not None else torch.zeros_like(entropy)
    return {**case, "loss": loss.item(), "of_log_probs": flat(new.grad), "of_entropy": flat(of_entropy)}


def flat(x):
    """Completion tokens, sequence after sequence."""
    return x.expand(-1, WIDTH)[MASK.bool()].tolist()


def punishment(tokens, buffer):
    """DAPO, eq. 13."""
    if tokens <= LIMIT - buffer:
        return 0.0
    return ((LIMIT - buffer) - tokens) / buffer if tokens <= LIMIT else -1.0


def mismatch():
    gap = (OLD - BEHAVIOUR)[MASK.bool()]
    ratio = gap.exp()
    return {
        "mean": gap.abs().mean().item(),
        "max": gap.abs().max().item(),
        "effective": (ratio.sum() ** 2 / (ratio**2).sum() / ratio.numel()).item(),
        "truncated": (ratio > 1.5).double().mean().item(),
    }


TRUNCATE = {"kind": "truncate", "cap": 1.5}
ICEPOP = {"kind": "mask", "low": 0.6, "high": 1.8}
PLAIN = {"objective": "clip", "aggregation": "token-mean"}
CASES = [
    *({"objective": "clip", "aggregation": a} for a in
      ["token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum", "fixed-length"]),
    {**PLAIN, "dual_clip": 1.4},
    {"objective": "gspo", "aggregation": "sequence-mean-token-mean"},
    {"objective": "gspo", "aggregation": "sequence-mean-token-mean", "importance": TRUNCATE},
    {"objective": "cispo", "aggregation": "token-mean"},
    *({**PLAIN, "kl": 0.3, "kl_estimator": k} for k in ["k1", "k2", "k3"]),
    {**PLAIN, "entropy": 0.05},
    {**PLAIN, "importance": TRUNCATE},
    {**PLAIN, "importance": ICEPOP},
    {"objective": "cispo", "aggregation": "fixed-length", "importance": ICEPOP, "kl": 0.1, "kl_estimator": "k2",
     "entropy": 0.01},
]

print(json.dumps({
    "lengths": LENGTHS, "limit": LIMIT, "low": LOW, "high": HIGH,
    "old": flat(OLD), "new": flat(NEW), "behaviour": flat(BEHAVIOUR), "reference": flat(REFERENCE),
    "entropy": flat(ENTROPY), "advantages": [a.item() for a in ADVANTAGES.float()[:, 0]],
    "mismatch": mismatch(),
    "punishment": [punishment(t, 6) for t in range(LIMIT + 2)],
    "cases": [evaluate(case) for case in CASES],
}, indent=1))
