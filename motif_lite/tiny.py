"""The tiny model: a Qwen2 of 0.4 million parameters that a laptop can train in rounds within minutes.

A model this small knows nothing, so it is first *warm-started*: it imitates perfect rounds of ``chain_sum``
(`motif_lite.chain_sum`) until it can do every step of the work. What it is not taught is how much to do in
the first round. The openings it imitates stop after any number of steps, too few to finish in the rounds
that follow or too many to fit; finding the right number is left to reinforcement learning, and is what an
opening's futures tell it.

What is saved is an ordinary Hugging Face folder, so nothing downstream knows that the model is special.
"""

import hashlib
import json
import math
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from motif_lite import chain_sum, replies
from motif_lite.errors import ModelError
from motif_lite.prompts import conversation, progress_notice
from motif_lite.types import Conversation, OnProgress, Problem

_VERSION = 1
"""Part of the cache key: raise it whenever a change here alters the model."""

_NUM_STEPS = 700
_BATCH_SIZE = 64
_LEARNING_RATE = 3e-3
_CURRICULUM = 0.3
"""Share of the warm start over which chains grow to full length; without it copying is not learned in time."""

_DRILL = 0.5
"""Share of the warm start spent on short single rounds from anywhere, before whole runs are imitated."""

_LONGEST = 12

_NUM_ATTEMPTS = 3
_NUM_CHECKED = 300
_ACCEPTED = (0.2, 0.6)
"""Sampled accuracy after the warm start: below, there is too little to reinforce; above, too little to gain."""

_IGNORED = -100
"""Label of the positions that the cross-entropy of torch leaves out."""

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def prepare(*, seed: int, num_rounds: int, max_tokens: int, cache_folder: Path, on_progress: OnProgress) -> Path:
    """Build and warm-start the tiny model, or find it in the cache.

    Args:
        seed: Decides the weights, the demonstrations and the sampling of the check; no global state is touched.
        num_rounds: Rounds of the runs to imitate.
        max_tokens: Reply limit of a round.
        cache_folder: Where finished models are kept, one folder for each set of arguments.
        on_progress: Told the training steps done and in all.

    Returns:
        A folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

    Raises:
        ModelError: No attempt reached the accuracy that reinforcement learning can start from.
    """
    key = json.dumps([_VERSION, seed, num_rounds, max_tokens])
    folder = cache_folder / f"tiny-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    cache_folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        model, tokenizer = _warm_started(seed, num_rounds, max_tokens, on_progress)
    _save(model, tokenizer, folder)
    return folder


def _warm_started(
    seed: int, num_rounds: int, max_tokens: int, on_progress: OnProgress
) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Try seeds derived from ``seed`` until one passes the check: a few of them learn too little or too well."""
    tokenizer = _tokenizer(num_rounds)
    seen = []
    for attempt in range(_NUM_ATTEMPTS):
        rng = random.Random(f"tiny/{seed}/{attempt}")
        torch.manual_seed(rng.getrandbits(63))
        model = _untrained(tokenizer)
        _imitate(model, tokenizer, rng, num_rounds, max_tokens, on_progress)
        checked = chain_sum.problems(_NUM_CHECKED, seed=seed, split="warm start check")
        seen.append(sampled_accuracy(model, tokenizer, checked, num_rounds, max_tokens))
        if _ACCEPTED[0] <= seen[-1] <= _ACCEPTED[1]:
            return model, tokenizer
    low, high = _ACCEPTED
    raise ModelError(
        f"the tiny model's warm start failed {_NUM_ATTEMPTS} times: sampled accuracy "
        f"{', '.join(f'{accuracy:.0%}' for accuracy in seen)} instead of {low:.0%} to {high:.0%}; "
        "choose another seed (--set seed=...)"
    )


def _tokenizer(num_rounds: int) -> PreTrainedTokenizerFast:
    """One token per byte, so that any text can be encoded, and one per fixed phrase, so that prompts are short."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    notices = [progress_notice(i, num_rounds, "\0").split("\0") for i in range(1, num_rounds)]
    phrases = [*replies.TAGS, "\\boxed{", *dict.fromkeys(part for notice in notices for part in notice)]
    core.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases if len(phrase) > 1])
    marks = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    core.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        chat_template=_CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def _untrained(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Random weights. Wider than usual (``initializer_range``), and with a short rope, or copying is learned late."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        initializer_range=0.1,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def _imitate(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    num_rounds: int,
    max_tokens: int,
    on_progress: OnProgress,
) -> None:
    """Train on demonstrations, each step on fresh ones; only the replies' tokens carry loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _learning_rate_factor)
    model.train()
    for step in range(_NUM_STEPS):
        rounds = _rounds(tokenizer, rng, step / _NUM_STEPS, num_rounds, max_tokens)
        batch = _batch(tokenizer, [next(rounds) for _ in range(_BATCH_SIZE)])
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        on_progress(step + 1, _NUM_STEPS)
    model.eval()


def _learning_rate_factor(step: int) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine to zero."""
    done = step / _NUM_STEPS
    return min(1.0, (step + 1) / (0.05 * _NUM_STEPS)) * 0.5 * (1 + math.cos(math.pi * done))


def _rounds(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, done: float, num_rounds: int, max_tokens: int
) -> Iterator[tuple[Conversation, str]]:
    """Demonstrations without end; ``done`` is the share of the warm start that is over."""
    longest = min(_LONGEST, 3 + round((_LONGEST - 3) * done / _CURRICULUM))
    while True:
        chain = [rng.randrange(10) for _ in range(rng.randint(max(1, longest - 3), longest))]
        if done < _DRILL:
            yield _drill(rng, chain, num_rounds)
        else:
            yield from _demonstrated_run(tokenizer, rng, chain, num_rounds, max_tokens)


def _drill(rng: random.Random, chain: list[int], num_rounds: int) -> tuple[Conversation, str]:
    """One short round from anywhere in the chain: picking up from the progress is the hardest line to learn."""
    start = rng.randint(0, len(chain))
    user, stop = chain_sum.question(chain), min(len(chain), start + rng.randint(1, 3))
    if start and num_rounds > 1:
        note = replies.progress(chain_sum.reply(chain, 0, start))
        user += progress_notice(rng.randint(1, num_rounds - 1), num_rounds, note)
    return conversation("", user), chain_sum.reply(chain, start if num_rounds > 1 else 0, stop)


def _demonstrated_run(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, chain: list[int], num_rounds: int, max_tokens: int
) -> Iterator[tuple[Conversation, str]]:
    """One run in which every line is right, and only the number of steps in a round may be wrong."""
    question = chain_sum.question(chain)
    num_fitting = _num_fitting_steps(max_tokens)
    user, start = question, 0
    for round_number in range(1, num_rounds + 1):
        fewest = 1 if round_number == 1 else num_fitting - 2
        stop = min(len(chain), start + rng.randint(fewest, num_fitting + 2))
        reply = chain_sum.reply(chain, start, stop)
        yield conversation("", user), reply
        seen = tokenizer.decode(tokenizer.encode(reply)[:max_tokens])
        note = replies.progress(seen)
        start = len(chain) if "\\boxed{" in note else chain_sum.steps_done(question, note) or 0
        user = question + progress_notice(round_number, num_rounds, note)


def _num_fitting_steps(max_tokens: int) -> int:
    """Steps that fit into a round: 12 tokens are for tags, progress and end of turn, and a step takes 4."""
    return max(1, (max_tokens - 12) // 4)


def _batch(tokenizer: PreTrainedTokenizerFast, rounds: list[tuple[Conversation, str]]) -> dict[str, torch.Tensor]:
    """Ids, mask and labels ``(B, T)``, padded on the right: training needs no common end."""
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    prompts = [tokenizer.encode(_rendered(tokenizer, user)) for user, _ in rounds]
    targets = [[*tokenizer.encode(reply), end] for _, reply in rounds]
    longest = max(len(p) + len(t) for p, t in zip(prompts, targets, strict=True))
    ids = torch.full((len(rounds), longest), pad)
    labels = torch.full((len(rounds), longest), _IGNORED)
    for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        ids[row, : len(prompt) + len(target)] = torch.tensor(prompt + target)
        labels[row, len(prompt) : len(prompt) + len(target)] = torch.tensor(target)
    return {"input_ids": ids, "attention_mask": (ids != pad).long(), "labels": labels}


def _rendered(tokenizer: PreTrainedTokenizerFast, messages: Conversation) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def sampled_accuracy(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: list[Problem],
    num_rounds: int,
    max_tokens: int,
) -> float:
    """Share of the problems solved in ``num_rounds`` rounds at temperature 1, one sample each."""
    users = [problem.question for problem in problems]
    for round_number in range(1, num_rounds + 1):
        inputs = tokenizer(
            [_rendered(tokenizer, conversation("", user)) for user in users], padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max_tokens,
            )
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        users = [
            problem.question + progress_notice(round_number, num_rounds, replies.progress(text))
            for problem, text in zip(problems, texts, strict=True)
        ]
    finals = [text.rpartition("\\boxed{")[2].partition("}")[0] for text in texts]
    return sum(final == problem.gold for final, problem in zip(finals, problems, strict=True)) / len(problems)


def _save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write to a temporary folder and rename it, so that an interrupted build leaves nothing half-made."""
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
