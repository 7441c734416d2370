"""The sequences that the rollout engine writes at a time: their rows, one step for all of them, and who has ended."""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from motif_lite.nouns import NotWanted, OnTokens, Sampling, TokenProgress
from motif_lite.planning.limits import READ_COLUMNS, READ_TOKENS
from motif_lite.policies.batch_sizes import rounded_up
from motif_lite.policies.engine import sampler
from motif_lite.policies.engine.decoder import Decoder
from motif_lite.policies.engine.graphs import Graphs, rounded_columns
from motif_lite.policies.engine.kv_cache import RowCache
from motif_lite.policies.engine.prefix_sharing import Placement, Prefixes, in_order
from motif_lite.policies.engine.sampler import Endings, Generated, Request
from motif_lite.policies.out_of_memory import is_out_of_memory
from motif_lite.policies.text_streams import OnToken

STEPS_BETWEEN_QUESTIONS = {"cpu": 1, "cuda": 8}
"""Who has ended is asked this often: a GPU works ahead of the host, and to answer would have to stop for it."""

_ADMIT_SHARE = 8
"""Sequences are admitted when this part of the rows is free: to read a single prompt costs as much as a step."""

_NO_TOKEN = 2**31 - 1

_log = logging.getLogger(__name__)


def capacity(requests: Sequence[Request], sampling: Sampling) -> int:
    """Tokens of the longest sequence in the cache; its last one never gets there."""
    return max(len(request.ids) for request in requests) - 1 + sampling.max_tokens


class Batch:
    """The sequences under way, a row each, and those that wait.

    Rows below ``_height`` take part in a step. A sequence that has ended goes on writing, to no effect, until its row
    is given away or closed up: that costs less than moving rows at once.

    Args:
        model: Causal, of transformers.
        decoder: What takes the steps, for as many positions as `capacity`; None leaves them to the model's layers.
        graphs: What records the decoder's steps, where that is to be done.
        is_stock: The model's layers take our cache. Otherwise the decoder reads the prompts, too.
    """

    def __init__(
        self,
        model: Any,
        requests: Sequence[Request],
        sampling: Sampling,
        endings: Endings,
        num_rows: int,
        report: OnTokens,
        *,
        decoder: Decoder | None,
        graphs: Graphs | None,
        is_stock: bool,
    ) -> None:
        self._model, self._sampling, self._endings = model, sampling, endings
        self._decoder, self._graphs, self._is_stock = decoder, graphs, is_stock
        self._report, self._num_requests = report, len(requests)
        self._num_read = self._num_to_read = self._num_ended = self._num_written = 0
        self._waiting = deque(in_order(requests))
        limit, self._capacity = sampling.max_tokens, capacity(requests, sampling)
        config = model.config.get_text_config(decoder=True)
        self._cache = RowCache(config.num_hidden_layers, num_rows, self._capacity)
        self._prefixes = Prefixes(num_rows, max(len(request.ids) for request in requests))
        self._owners: dict[int, Request] = {}
        self._height = 0
        self._num_steps = 0
        # What the host knows without asking: which rows are wanted, tokens of each in the cache, the new ones of them.
        self._is_wanted = np.zeros(num_rows, np.bool_)
        self._lengths, self._counts = np.zeros(num_rows, np.int64), np.zeros(num_rows, np.int64)

        device = model.device
        self._first_slots = torch.arange(num_rows, device=device) * self._capacity
        self._columns = torch.arange(self._capacity, device=device)
        self._token = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._length = torch.zeros_like(self._token)
        self._count = torch.zeros_like(self._token)
        self._end = torch.zeros_like(self._token)
        """New tokens up to the one that ended the sequence; 0 while there is none."""
        self._recent = torch.full((num_rows, endings.window), _NO_TOKEN, device=device)
        # The last column is for what a sequence writes after its end.
        self._uniforms = torch.zeros(num_rows, limit + 1, device=device)
        self._tokens = torch.zeros(num_rows, limit + 1, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(num_rows, limit + 1, device=device)

    def report(self) -> None:
        """Tell how far all sequences have come."""
        under_way, limit = int(self._counts[self._is_wanted].sum()), self._sampling.max_tokens
        self._report(
            TokenProgress(
                self._num_read,
                self._num_to_read,
                written=self._num_written + under_way,
                settled=self._num_ended * limit + under_way,
                to_write=self._num_requests * limit,
            )
        )

    def admit(self) -> None:
        """Give free rows to sequences that wait, once it is worth while, and read what they begin with."""
        if not self._waiting:
            return
        free: list[int] = np.flatnonzero(~self._is_wanted).tolist()
        if len(free) < min(len(self._waiting), max(1, len(self._is_wanted) // _ADMIT_SHARE)):
            return
        admitted = [self._waiting.popleft() for _ in range(min(len(free), len(self._waiting)))]
        placements = self._prefixes.place(admitted, free)
        self._num_to_read += sum(len(placement.unread) for placement in placements)
        for wave in range(1 + max(placement.wave for placement in placements)):
            self._begin([placement for placement in placements if placement.wave == wave])
        self._enter(placements)

    def _begin(self, placements: list[Placement]) -> None:
        """Fill rows with all of their prompts but the last token."""
        copied = [placement for placement in placements if placement.source != placement.row]
        if copied:
            device = self._token.device
            self._cache.copy(
                torch.tensor([placement.source for placement in copied], device=device),
                torch.tensor([placement.row for placement in copied], device=device),
                max(placement.shared for placement in copied),
            )
        unread = sorted((p for p in placements if p.unread), key=lambda placement: len(placement.unread))
        columns = max((len(placement.request.ids) for placement in unread), default=0)
        while unread:
            together = max(1, min(READ_TOKENS // len(unread[-1].unread), READ_COLUMNS // columns))
            self._read(unread[-together:])
            self._num_read += sum(len(placement.unread) for placement in unread[-together:])
            del unread[-together:]
            self.report()

    def _read(self, placements: list[Placement]) -> None:
        """One forward pass ``(R, T)`` over the unread parts of prompts, padded on the right."""
        device = self._token.device
        longest = max(len(placement.unread) for placement in placements)
        ids = torch.tensor([p.unread + [0] * (longest - len(p.unread)) for p in placements], device=device)
        sizes = torch.tensor([len(placement.unread) for placement in placements], device=device)
        shared = torch.tensor([placement.shared for placement in placements], device=device)
        rows = torch.tensor([placement.row for placement in placements], device=device)
        offsets = torch.arange(longest, device=device)
        positions = (shared[:, None] + offsets).clamp_(max=self._capacity - 1)  # padding's may lie beyond all others
        slots = torch.where(offsets < sizes[:, None], rows[:, None] * self._capacity + positions, self._cache.nowhere)
        columns = max(len(placement.request.ids) for placement in placements) - 1
        self._cache.attend(rows, columns, slots.flatten())
        if self._decoder is not None and not self._is_stock:
            self._decoder.read(ids, positions, self._mask(positions[:, None], columns), self._cache)
            return
        self._model.get_decoder()(
            input_ids=ids,
            position_ids=positions,
            attention_mask=self._mask(positions[:, None], columns),
            past_key_values=self._cache,
            use_cache=True,
        )

    def _enter(self, placements: list[Placement]) -> None:
        """Set up the rows of sequences whose prompts are in the cache."""
        device = self._token.device
        rows = torch.tensor([placement.row for placement in placements], device=device)
        requests = [placement.request for placement in placements]
        self._token[rows] = torch.tensor([request.ids[-1] for request in requests], device=device)
        self._length[rows] = torch.tensor([len(request.ids) - 1 for request in requests], device=device)
        streams = [sampler.uniforms(request.seed, self._sampling.max_tokens) for request in requests]
        self._uniforms[rows, :-1] = torch.stack(streams).to(device)
        self._count[rows], self._end[rows], self._recent[rows] = 0, 0, _NO_TOKEN
        for placement in placements:
            self._owners[placement.row] = placement.request
            self._is_wanted[placement.row], self._counts[placement.row] = True, 0
            self._lengths[placement.row] = len(placement.request.ids) - 1
        self._height = max(self._height, 1 + max(placement.row for placement in placements))

    def step(self) -> None:
        """One more token for every row below the height."""
        rows = slice(self._height)
        limit = self._sampling.max_tokens
        # A sequence that has ended comes to the end of its row, and stays there.
        length = self._length[rows].clamp_(max=self._capacity - 1)
        count = self._count[rows].clamp_(max=limit)
        logits = self._next_logits(rows)
        at = self._uniforms[rows].gather(1, count[:, None])[:, 0]
        tokens, logprobs = sampler.draw(logits, self._sampling, at)
        self._tokens[rows].scatter_(1, count[:, None], tokens[:, None])
        self._logprobs[rows].scatter_(1, count[:, None], logprobs[:, None])
        self._token[rows] = tokens
        self._recent[rows] = torch.cat((self._recent[rows, 1:], tokens[:, None]), 1)
        length += 1
        count += 1
        end = self._end[rows]
        has_ended = self._endings.reached(self._recent[rows]) & (end == 0) & (count <= limit)
        end.copy_(torch.where(has_ended, count, end))
        self._lengths[rows] += 1
        self._counts[rows] += 1
        self._num_steps += 1

    def _next_logits(self, rows: slice) -> torch.Tensor:
        """Of the next token of rows ``(R, V)``, recorded or replayed where there are graphs."""
        if self._graphs is None or self._decoder is None:
            return self._logits(rows, self._columns_seen(), self._decoder)
        columns = min(rounded_columns(self._columns_seen()), self._capacity)
        try:
            return self._graphs.logits((self._height, columns), lambda: self._logits(rows, columns, self._decoder))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            _log.warning("token steps cannot be recorded (%s): they take several times as long", reason)
            self._graphs = None
            return self._logits(rows, columns, self._decoder)

    def _columns_seen(self) -> int:
        """Of the longest row, with the token that it gets now."""
        return min(int(self._lengths[self._is_wanted].max()) + 1, self._capacity)

    def _logits(self, rows: slice, columns: int, decoder: Decoder | None) -> torch.Tensor:
        """Of the next token of rows ``(R, V)``; what they have of this one in the cache is written."""
        length = self._length[rows]
        self._cache.attend(rows, columns, self._first_slots[rows] + length)
        mask = self._mask(length[:, None, None], columns)
        if decoder is not None:
            return decoder.logits(self._token[rows], length, mask, self._cache)
        logits: torch.Tensor = self._model(
            input_ids=self._token[rows, None],
            position_ids=length[:, None],
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        return logits

    def tell(self, on_token: OnToken) -> None:
        """Pass on the tokens of this step, less those that sequences write after their end; end what nobody wants."""
        end, count = self._end[: self._height], self._count[: self._height]
        counts = ((end == 0) | (end == count)) & (count <= self._sampling.max_tokens)
        tokens, is_part = self._token[: self._height].tolist(), counts.tolist()
        for row, request in self._owners.items():
            if is_part[row]:
                try:
                    on_token(request.index, tokens[row])
                except NotWanted:
                    self._end[row] = count[row]

    def _mask(self, positions: torch.Tensor, columns: int) -> torch.Tensor:
        """What tokens at positions ``(B, 1, T)`` see, to be added to their scores ``(B, 1, T, columns)``."""
        hidden = self._columns[:columns] > positions[..., None]
        return torch.zeros(hidden.shape, dtype=self._model.dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)

    def retire(self) -> list[tuple[int, Generated]]:
        """Those that have ended, with their rows freed; closes up where none waits for the rows."""
        if self._num_steps % STEPS_BETWEEN_QUESTIONS[self._token.device.type]:
            return []
        has_ended = (self._end[: self._height] > 0).cpu().numpy() | (
            self._counts[: self._height] >= self._sampling.max_tokens
        )
        rows = np.flatnonzero(has_ended & self._is_wanted[: self._height])
        ended = [(self._owners.pop(row).index, self._written(row)) for row in rows.tolist()]
        self._is_wanted[rows] = False
        self._num_ended += len(ended)
        self._num_written += sum(len(written.ids) for _, written in ended)
        if ended and not self._waiting:
            self._close_up()
        return ended

    def _close_up(self) -> None:
        """Move the last rows that are wanted into gaps before them, once a step then has fewer rows (`batch_sizes`)."""
        height = rounded_up(int(self._is_wanted.sum()))
        if height >= self._height:
            return
        self._height = height
        moved = height + np.flatnonzero(self._is_wanted[height:])
        gaps = np.flatnonzero(~self._is_wanted[:height])[: len(moved)]
        if not len(moved):
            return
        sources, targets = (torch.from_numpy(rows).to(self._token.device) for rows in (moved, gaps))
        self._cache.copy(sources, targets, int(self._lengths[moved].max()))
        for state in (
            self._token, self._length, self._count, self._end, self._recent, self._uniforms, self._tokens,
            self._logprobs,
        ):  # fmt: skip
            state[targets] = state[sources]
        self._lengths[gaps], self._counts[gaps] = self._lengths[moved], self._counts[moved]
        self._is_wanted[gaps], self._is_wanted[moved] = True, False
        for source, target in zip(moved.tolist(), gaps.tolist(), strict=True):
            self._owners[target] = self._owners.pop(source)

    def _written(self, row: int) -> Generated:
        limit = self._sampling.max_tokens
        return sampler.written(self._tokens[row, :limit], self._logprobs[row, :limit], int(self._end[row]))
