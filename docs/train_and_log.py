"""A small model that asks a service of lawfit for its settings and logs itself: train_and_log.py [WIDTH [RATE]]"""

import sys

import torch
from torch import nn

import lawfit.client

CONTEXT, VOCABULARY, STEPS, BATCH_TOKENS = 8, 64, 300, 512
WIDTH, OWN_LR = int([*sys.argv, "32"][1]), float([*sys.argv, "32", "3e-3"][2])
torch.manual_seed(0)
model = nn.Sequential(
    nn.Embedding(VOCABULARY, WIDTH), nn.Flatten(), nn.Linear(CONTEXT * WIDTH, 4 * WIDTH), nn.GELU(),
    nn.Linear(4 * WIDTH, VOCABULARY),
)  # fmt: skip
params, tokens = sum(p.numel() for p in model.parameters()), STEPS * BATCH_TOKENS


def batch(size=BATCH_TOKENS):
    """Sequences in which each token follows from the one before, mostly."""
    steps = torch.randint(1, 4, (size, CONTEXT + 1)).cumsum(1)
    tokens_seen = (steps + torch.randint(0, VOCABULARY, (size, 1))) % VOCABULARY
    return tokens_seen[:, :-1], tokens_seen[:, -1]


try:  # the best learning rate at this scale, from the runs that the service knows
    lr = lawfit.client.ask(params=params, tokens=tokens, batch_tokens=BATCH_TOKENS)["recommendation"]["lr"]["value"]
except (lawfit.client.ClientError, TypeError) as error:  # no service, or its runs tell no learning rate
    print(f"settings of our own: {error}")
    lr = OWN_LR
config = {"params": params, "tokens": tokens, "batch_tokens": BATCH_TOKENS, "lr": lr, "seq_len": CONTEXT}
optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
with lawfit.client.start("tiny", {**config, "optimizer": "adamw", "schedule": "linear"}) as run:
    for step in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = falling = lr * (1 - (step - 1) / STEPS)
        inputs, targets = batch()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step, train_loss=loss, lr=falling)
    with torch.no_grad():
        inputs, targets = batch(32 * BATCH_TOKENS)
        run.finish(val_loss=float(nn.functional.cross_entropy(model(inputs), targets)))
