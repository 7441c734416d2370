"""The rollout engine: many replies at once, in as few forward passes as the work allows.

What it does that `model.generate` does not:

- A prompt is read once, however many replies it gets, and what prompts have in common at their beginning is read once
  (`prefix_sharing`). Prompts are read in batches of a bounded number of tokens, so reading never decides peak memory.
- Keys and values lie in one block that is allocated once (`kv_cache`); rows have lengths of their own, without padding.
- A sequence that ends leaves its row to one that waits; when none waits, rows close up. No reply waits for the longest.
- A step is one forward pass and a dozen small operations on whole batches. All shapes are known beforehand; the only
  thing read back from the device is who has ended.
- Models of the kind that Llama began are taken through their layers by a `decoder` of our own, with less work for the
  host. At every call its first logits are compared with the model's; where they differ, the model's layers are used.
- Every sequence has a random stream of its own (`sampler`): what it writes does not depend on width or company,
  rounding aside.

A sequence enters with all of its prompt in the cache but the last token. So its first step is like any other, and
reading prompts never computes logits.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel

from motif_lite.nouns import OnTokens, Sampling
from motif_lite.policies.engine.attention import row_attention, takes_row_attention
from motif_lite.policies.engine.batch import Batch
from motif_lite.policies.engine.decoder import can_decode
from motif_lite.policies.engine.sampler import Endings, Generated, Request
from motif_lite.policies.text_streams import OnToken


def supports(model: Any) -> bool:
    """Whether the engine can generate with a model of transformers, with or without PEFT."""
    return takes_row_attention(_base(model))


def _base(model: Any) -> Any:
    """The causal model itself, which PEFT has put its layers into; going round its wrapper saves time at every step."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class Engine:
    """Generates with a model of transformers, and its adapter as it stands, if it has one.

    Args:
        model: One that `supports` accepts; in inference mode whenever `sequences` runs.

    Attributes:
        decodes: Whether steps are taken by our own decoder; False once its logits were not the model's.
    """

    def __init__(self, model: Any) -> None:
        self._model = _base(model)
        self.decodes = can_decode(self._model)

    def sequences(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        endings: Endings,
        *,
        width: int,
        report: OnTokens,
        on_token: OnToken | None = None,
    ) -> Iterator[tuple[int, Generated]]:
        """Write all requests, at most ``width`` at once; yields (index, what was written) as they end.

        Args:
            report: Told of the tokens so far, after every pass that reads prompts or writes.
            on_token: Given each token as it is drawn, which on a GPU makes the host wait for it.
        """
        batch = Batch(self._model, requests, sampling, endings, min(width, len(requests)), report)
        is_checked, num_ended = not self.decodes, 0
        while num_ended < len(requests):
            with row_attention(self._model), torch.inference_mode():
                batch.admit()
                if not is_checked:
                    is_checked, self.decodes = True, batch.begin_decoding()
                batch.step()
                if on_token is not None:
                    batch.tell(on_token)
                ended = batch.retire()
            num_ended += len(ended)
            yield from ended
            batch.report()
