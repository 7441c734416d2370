"""A causal model over rows that begin alike, and the check that it computes what it would for each row alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from motif_lite.planning.limits import DROPOUTS
from motif_lite.policies.engine.attention import takes_row_attention
from motif_lite.policies.engine.products import precision
from motif_lite.policies.packing.attention import TreeMap, tree_attention
from motif_lite.policies.packing.logprobs import token_logprobs
from motif_lite.policies.packing.tree import Row, tree_of

MOST_OFF = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}
"""By the precision of products, how far a token's log-probability may be from that of its row alone; the root mean
square."""

_QUESTIONS = ("How many legs do three cats have?", "How many legs do two ants have?")
_ANSWERS = ("Three cats have 12 legs.", "12 is the answer.")


class PackedModel:
    """Computes rows packed into a tree.

    Args:
        model: A PEFT model that `can_pack` accepts.
    """

    def __init__(self, model: Any) -> None:
        self._base = model.get_base_model()

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Everything that `logprobs` computes, and its backward pass, has to happen in here."""
        with tree_attention(self._base):
            yield

    def logprobs(
        self, prompts: Sequence[Row], replies: Sequence[Row], temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies of all replies' tokens, one reply behind the other: ``(N,)`` each.

        Args:
            prompts: One for each reply, of one token at least.
            temperature: That logits are divided by.
        """
        rows = [[*prompt, *reply] for prompt, reply in zip(prompts, replies, strict=True)]
        tree, device = tree_of(rows), self._base.device
        states = self._base.get_decoder()(
            input_ids=torch.tensor([tree.ids], device=device),
            position_ids=torch.tensor([tree.positions], device=device),
            attention_mask=torch.zeros(1, 1, 1, 1, device=device),  # of four dimensions: the model makes none itself
            use_cache=False,
            tree=TreeMap(tree, device),
        ).last_hidden_state[0]
        places = zip(prompts, tree.places, strict=True)
        before = [place for prompt, own in places for place in own[len(prompt) - 1 : -1]]
        targets = [token for reply in replies for token in reply]
        return token_logprobs(
            self._base.get_output_embeddings(),
            states[torch.tensor(before, dtype=torch.long, device=device)],  # all replies of a piece may be left out
            torch.tensor(targets, dtype=torch.long, device=device),
            temperature,
        )


def can_pack(policy: Any) -> bool:
    """Whether packed rows of a policy's model have the log-probabilities that they have alone.

    Attention over windows, dropout, and what else hangs on more than the tokens before is left out by what the model
    says of itself; then rows with real prompts are compared.
    """
    base = policy.model.get_base_model()
    if not takes_row_attention(base) or any(getattr(base.config, key, None) for key in DROPOUTS):
        return False
    prompts = [policy.encode(policy.render([{"role": "user", "content": text}])) for text in _QUESTIONS]
    replies = [policy.encode(text) for text in _ANSWERS]
    rows = [(prompt, reply) for prompt in prompts for reply in replies]
    packed, alone = _packed(policy.model, rows), _alone(policy.model, rows)
    off = (packed - alone).pow(2).mean().sqrt()
    return bool(off < MOST_OFF.get(precision(base), MOST_OFF[torch.bfloat16]))


@torch.no_grad()
def _packed(model: Any, rows: Sequence[tuple[Row, Row]]) -> torch.Tensor:
    packed = PackedModel(model)
    with packed.ready():
        return packed.logprobs([prompt for prompt, _ in rows], [reply for _, reply in rows], 1.0)[0]


@torch.no_grad()
def _alone(model: Any, rows: Sequence[tuple[Row, Row]]) -> torch.Tensor:
    found = []
    for prompt, reply in rows:
        ids = torch.tensor([[*prompt, *reply]], device=model.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
        distributions = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
        found.append(distributions.gather(-1, ids[0, len(prompt) :, None])[:, 0])
    return torch.cat(found)
