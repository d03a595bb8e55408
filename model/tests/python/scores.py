"""Prints log-probabilities of each next token as JSON: scores.py MODEL TOKENS [ADAPTER]."""

import json
import sys

import torch
import transformers

model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
if len(sys.argv) > 3:
    import peft

    model = peft.PeftModel.from_pretrained(model, sys.argv[3])
tokens = torch.tensor([json.loads(sys.argv[2])])
with torch.no_grad():
    logits = model.eval()(tokens).logits[0, :-1].float()
chosen = logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
print(json.dumps(chosen.tolist()))
