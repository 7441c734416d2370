"""Generation by the model's own `generate`, for models that the engine cannot take over.

One left-padded batch at a time, each as slow as its longest reply. What is drawn is the engine's: tokens come from
`sampler.draw` with every sequence's own stream, so width changes nothing here either.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from motif_lite.nouns import NotWanted, OnTokens, Sampling, TokenProgress
from motif_lite.policies.engine import sampler
from motif_lite.policies.engine.sampler import Endings, Generated, Request
from motif_lite.policies.text_streams import OnToken


def sequences(
    model: Any,
    requests: Sequence[Request],
    sampling: Sampling,
    endings: Endings,
    *,
    width: int,
    pad_id: int,
    report: OnTokens,
    on_token: OnToken | None = None,
) -> Iterator[tuple[int, Generated]]:
    """Write all requests in calls of at most ``width``; yields (index, what was written) as calls end.

    Args:
        report: Told of the tokens so far; a call's prompts are read before its first token.
        on_token: Given each token as it is drawn.
    """
    for start in range(0, len(requests), width):
        call = requests[start : start + width]
        longest = max(len(request.ids) for request in call)
        # By hand, not through tokenizer.pad: Unsloth flips the tokenizer's padding side in mid-training.
        padded = torch.tensor([[pad_id] * (longest - len(request.ids)) + request.ids for request in call])
        mask = torch.tensor([[0] * (longest - len(request.ids)) + [1] * len(request.ids) for request in call])
        uniforms = torch.stack([sampler.uniforms(request.seed, sampling.max_tokens) for request in call])
        drawing, indices = _Drawing(sampling, uniforms.to(model.device)), [request.index for request in call]
        ending = _Ending(endings, longest, report, start * sampling.max_tokens, len(requests) * sampling.max_tokens)
        tellers = [_Telling(ending, indices, on_token)] if on_token else []
        model.generate(
            input_ids=padded.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                use_cache=True,
                eos_token_id=endings.stop_ids,
                pad_token_id=pad_id,
            ),
            logits_processor=LogitsProcessorList([drawing]),
            stopping_criteria=StoppingCriteriaList([ending, *tellers]),
        )
        tokens, logprobs = torch.stack(drawing.tokens, 1), torch.stack(drawing.logprobs, 1)
        for row, request in enumerate(call):
            yield request.index, sampler.written(tokens[row], logprobs[row], int(ending.lengths[row]))


class _Drawing(LogitsProcessor):
    """Draws each row's token, remembers it, and leaves `generate` no other to choose."""

    def __init__(self, sampling: Sampling, uniforms: torch.Tensor) -> None:
        self.sampling, self.uniforms = sampling, uniforms
        self.tokens: list[torch.Tensor] = []
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens, logprobs = sampler.draw(scores, self.sampling, self.uniforms[:, len(self.tokens)])
        self.tokens.append(tokens)
        self.logprobs.append(logprobs)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


class _Ending(StoppingCriteria):
    """Notes where each row ends, and reports each step."""

    def __init__(self, endings: Endings, prompt_tokens: int, report: OnTokens, done: int, limit: int) -> None:
        self.endings, self.prompt_tokens, self.report = endings, prompt_tokens, report
        self.done, self.limit = done, limit
        self.lengths = torch.zeros(0)
        """New tokens of each row up to its end ``(B,)``; 0 while it has none."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        count = input_ids.shape[1] - self.prompt_tokens
        ended = self.endings.reached(input_ids[:, max(self.prompt_tokens, input_ids.shape[1] - self.endings.window) :])
        if count == 1:
            self.lengths = torch.zeros_like(input_ids[:, 0])
        self.lengths = torch.where(ended & (self.lengths == 0), count, self.lengths)
        done = self.done + count * len(ended)
        self.report(TokenProgress(0, 0, done, done, self.limit))
        return self.lengths > 0


class _Telling(StoppingCriteria):
    """Passes on each row's token, unless the row had ended before; it stops nothing.

    Args:
        ending: Which has looked at the same step before.
        indices: Of the rows among the replies.
    """

    def __init__(self, ending: _Ending, indices: Sequence[int], on_token: OnToken) -> None:
        self.ending, self.indices, self.on_token = ending, indices, on_token

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        lengths, count = self.ending.lengths, input_ids.shape[1] - self.ending.prompt_tokens
        is_part = ((lengths == 0) | (lengths == count)).tolist()
        for row, (index, token) in enumerate(zip(self.indices, input_ids[:, -1].tolist(), strict=True)):
            if is_part[row]:
                try:
                    self.on_token(index, token)
                except NotWanted:
                    lengths[row] = count  # its row ends with the next step
        return torch.zeros_like(lengths, dtype=torch.bool)
