"""Fine-tuning of the whole encoder on texts with emotions: `train emotion --full`.

BERT's recipe (Devlin et al. 2019): a linear layer over the mean of the word pieces, all weights trained with a small learning rate, with
warm-up and decay. The head is then fitted on states of an encoder that was trained on these texts, so thresholds and calibration must come
from other texts.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from kernels.types import F32, I64
from training.device import for_torch, mixed_precision
from training.models.emotion import encoder as minilm
from training.models.emotion.encoder import WIDTH, Encoder, Pieces
from training.models.emotion.model import NAMES

Progress = Callable[[str, float], None]

EPOCHS, BATCH, POOL = 2, 32, 16
RATE, HEAD_RATE, DECAY, WARM_UP, DROPOUT = 5e-5, 1e-3, 0.01, 0.1, 0.1


def fine_tuned(given: Pieces, y: F32, learn: I64, seed: int, progress: Progress) -> Encoder:
    """Return the encoder fine-tuned on the texts `learn`; y: float32 [texts, len(NAMES)] in {0, 1}."""
    torch.manual_seed(seed)
    device = for_torch()
    encoder, head = minilm.encoder().to(device).train(), nn.Linear(WIDTH, len(NAMES)).to(device)
    groups = [{"params": encoder.parameters(), "lr": RATE}, {"params": head.parameters(), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    random = np.random.default_rng(seed)
    steps = EPOCHS * len(_batches(random, learn, np.diff(given.offsets)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, HEAD_RATE], total_steps=steps + 1, pct_start=WARM_UP)
    done, running = 0, 0.0
    for _epoch in range(EPOCHS):
        for batch in _batches(random, learn, np.diff(given.offsets)):
            ids, mask = _padded(given, batch)
            with mixed_precision(device):
                states = encoder(ids.to(device), mask.to(device))
                present = mask.to(device)[..., None].float()
                mean = (states * present).sum(1) / present.sum(1)
                logits = head(nn.functional.dropout(mean, DROPOUT))
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), torch.from_numpy(y[batch]).to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            running += (float(loss.detach()) - running) / min(done, 100)
            progress(f"fine-tuning the encoder, loss {running:.4f}", done / steps)
    return encoder.cpu().eval()


def _batches(random: np.random.Generator, learn: I64, sizes: I64) -> list[I64]:
    """Return batches of texts of similar length, in random order."""
    order = random.permutation(learn)
    pools = [order[begin : begin + POOL * BATCH] for begin in range(0, len(order), POOL * BATCH)]
    batches = [part for pool in pools for part in np.array_split(pool[np.argsort(sizes[pool])], max(1, -(-len(pool) // BATCH)))]
    return [batches[place] for place in random.permutation(len(batches))]


def _padded(given: Pieces, rows: I64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids int64 [texts, pieces] and the mask bool [texts, pieces], False for padding."""
    sizes = given.offsets[rows + 1] - given.offsets[rows]
    places = np.arange(int(sizes.max()))
    present = places < sizes[:, None]
    at = np.minimum(given.offsets[rows][:, None] + places, len(given.ids) - 1)
    return torch.from_numpy(np.where(present, given.ids[at], minilm.PAD)), torch.from_numpy(present)
