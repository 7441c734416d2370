"""The rollout engine: many replies at once, in as few forward passes as the work allows.

What it does that `model.generate` does not:

- A prompt is read once, however many replies it gets, and what prompts have in common at their beginning is read once
  (`prefix_sharing`). Prompts are read in batches of a bounded number of tokens, so reading never decides peak memory.
- Keys and values lie in one block that is allocated once (`kv_cache`); rows have lengths of their own, without padding.
- A sequence that ends leaves its row to one that waits; when none waits, rows close up. No reply waits for the longest.
- A step is one forward pass and a dozen small operations on whole batches. All shapes are known beforehand; the only
  thing read back from the device is who has ended.
- Models of the kind that Llama began are taken through their layers by a `decoder` of our own, with less work for the
  host; on a GPU its steps are recorded and replayed (`graphs`). At every call its layers are compared with the model's
  (`checking`); where they differ, the model's own are used, or, where those are Unsloth's, its `generate`.
- Every sequence has a random stream of its own (`sampler`): what it writes does not depend on width or company,
  rounding aside.

A sequence enters with all of its prompt in the cache but the last token. So its first step is like any other, and
reading prompts never computes logits.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from peft import PeftModel

from motif_lite.nouns import OnTokens, Sampling
from motif_lite.policies.engine import checking
from motif_lite.policies.engine.attention import row_attention, sees_all, takes_row_attention
from motif_lite.policies.engine.batch import Batch, capacity
from motif_lite.policies.engine.decoder import Decoder, can_decode
from motif_lite.policies.engine.graphs import Graphs
from motif_lite.policies.engine.products import Room
from motif_lite.policies.engine.sampler import Endings, Generated, Request
from motif_lite.policies.out_of_memory import is_out_of_memory
from motif_lite.policies.text_streams import OnToken

_log = logging.getLogger(__name__)


def supports(model: Any) -> bool:
    """Whether the engine can generate with a model of transformers or Unsloth, with or without PEFT."""
    base = _base(model)
    return takes_row_attention(base) or (sees_all(base) and can_decode(base))


def _base(model: Any) -> Any:
    """The causal model itself, which PEFT has put its layers into; going round its wrapper saves time at every step."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class OtherDecoderError(Exception):
    """Our decoder is no use for a model whose layers cannot take its place: why; nothing has been written."""


class Engine:
    """Generates with a model, and its adapter as it stands, if it has one.

    Args:
        model: One that `supports` accepts; in inference mode whenever `sequences` runs.

    Attributes:
        decodes: Whether steps are taken by our own decoder; False once it was not the model's.
        keeps_weights: 4-bit weights are dequantised once per call, and not at every step; None leaves them to the
            model's modules.
        precision: Of the model's products while `sequences` runs.
    """

    def __init__(self, model: Any) -> None:
        self._model = _base(model)
        self._is_stock = takes_row_attention(self._model)
        self.precision: torch.dtype = self._model.dtype
        self.decodes = can_decode(self._model)
        self.keeps_weights: bool | None = None

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

        Raises:
            OtherDecoderError: The model is Unsloth's, and our decoder fails or computes something else.
        """
        num_rows, num_ended = min(width, len(requests)), 0
        decoder = self._decoder(requests, sampling)
        records = decoder is not None and self._model.device.type == "cuda"
        batch = Batch(
            self._model, requests, sampling, endings, num_rows, report,
            decoder=decoder, graphs=Graphs(num_rows) if records else None, is_stock=self._is_stock,
        )  # fmt: skip
        while num_ended < len(requests):
            with row_attention(self._model) if self._is_stock else nullcontext(), torch.inference_mode():
                batch.admit()
                batch.step()
                if on_token is not None:
                    batch.tell(on_token)
                ended = batch.retire()
            num_ended += len(ended)
            yield from ended
            batch.report()

    def _decoder(self, requests: Sequence[Request], sampling: Sampling) -> Decoder | None:
        """Of the model and its adapter as they are now, if it does what the model does."""
        if not self.decodes:
            return None
        decoder = fault = None
        try:
            with torch.inference_mode():
                room = None if self.keeps_weights is None else Room(keeps=self.keeps_weights)
                decoder = Decoder(self._model, max(2, capacity(requests, sampling)), room)
                fault = checking.fault(self._model, decoder, requests[0].ids, self.precision)
        except Exception as error:  # another version's attributes or shapes, or whatever a kernel raises
            if is_out_of_memory(error):
                raise
            fault = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        if fault is None:
            return decoder
        decoder = room = None  # and all that was dequantised for it
        self.decodes = False
        if not self._is_stock:
            raise OtherDecoderError(f"this program's own decoder is not the model's ({fault})")
        _log.warning(
            "this program's own decoder is not the model's (%s): replies are generated by the model's layers, more "
            "slowly; please report it with the model's name", fault,
        )  # fmt: skip
        return None
