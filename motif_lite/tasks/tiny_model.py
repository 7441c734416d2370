"""The tiny model: a Qwen2 of 0.4 million parameters that a laptop can train in rounds within minutes.

A model this small knows nothing, so it is first *warm-started*: it imitates perfect rounds of ``chain_sum``
(`tasks.chain_sum`) until it can do every step of the work. It is not taught how much to do in the first round. The
openings it imitates stop after a random number of steps, too few to finish in the later rounds or too many to fit.
Reinforcement learning has to find the right number, from the reward of an opening's futures.

What is saved is an ordinary Hugging Face folder, so nothing downstream knows that the model is special.
"""

import hashlib
import json
import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from motif_lite import locks
from motif_lite.errors import ModelError
from motif_lite.nouns import TAGS, Conversation, OnProgress, Sampling
from motif_lite.planning.metering import keeping_freed_memory
from motif_lite.planning.shapes import TINY
from motif_lite.policies.local import LocalPolicy
from motif_lite.rollout import reply_format
from motif_lite.rollout.prompts import conversation, progress_notice
from motif_lite.rollout.rewards import is_solved
from motif_lite.rollout.strategies import MultiRound
from motif_lite.rollout.thinking import think
from motif_lite.tasks import chain_sum

_VERSION = 2
"""Part of the cache key: raise it whenever a change here alters the model."""

_NUM_STEPS = 1000
_BATCH_SIZE = 32
_LEARNING_RATE = 3e-3
_LONG_CHAINS = 0.3
"""Share of the warm start over which chains grow to full length; without it copying is not learned in time."""

_ALL_DIGITS = 0.4
"""Share of the warm start over which digits above 2 become as common as the rest: addition starts easy."""

_SHORT_CHAINS = 0.4
"""Share of the warm start over which a quarter of the chains are short enough for one round."""

_NUM_ATTEMPTS = 3
_NUM_CHECKED = 300
_ACCEPTED = (0.2, 0.6)
"""Sampled accuracy after the warm start: below, there is too little to reinforce; above, too little to gain."""

_CONTEXT_TOKENS = 1024

_IGNORED = -100  # the label of positions that the cross-entropy of torch leaves out

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class _Course:
    """What the demonstrations and the check have in common.

    Attributes:
        task: Name of the kind of `chain_sum`.
        tokenizer: Decides how much of a reply fits into a round.
        num_rounds: Rounds of a run.
        max_tokens: Reply limit of a round.
        num_fitting: The most steps whose reply fits into a round, end of turn included.
    """

    task: str
    tokenizer: PreTrainedTokenizerFast
    num_rounds: int
    max_tokens: int
    num_fitting: int

    @property
    def rules(self) -> chain_sum.Task:
        """Of the task."""
        return chain_sum.TASKS[self.task]

    @property
    def longest(self) -> int:
        """Digits of the longest chain demonstrated, as in `chain_sum.problems`."""
        return self.rules.lengths[1]


def prepare(
    *,
    seed: int,
    num_rounds: int,
    max_tokens: int,
    cache_folder: Path,
    on_progress: OnProgress,
    on_start: Callable[[], None] = lambda: None,
    task: str = "chain_sum",
) -> Path:
    """Build and warm-start the tiny model, or find it in the cache.

    Args:
        seed: Decides the weights, the demonstrations and the sampling of the check; no global state is touched.
        num_rounds: Rounds of the runs to imitate.
        max_tokens: Reply limit of a round.
        cache_folder: Where finished models are kept, one folder for each set of arguments.
        task: Which kind of `chain_sum` it is for.
        on_progress: Told the training steps done and in all; a second attempt counts from the start again.
        on_start: Called before, where the model is not in the cache.

    Returns:
        A folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

    Raises:
        ModelError: No attempt reached the accuracy that reinforcement learning can start from.
    """
    key = json.dumps([_VERSION, seed, num_rounds, max_tokens] + [task] * (task != "chain_sum"))
    folder = cache_folder / f"tiny-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    with ExitStack() as stack:
        try:
            cache_folder.mkdir(parents=True, exist_ok=True)
            on_start()
            on_progress(0, _NUM_STEPS)
            # Another process that builds the same model is waited for, and what it has built is taken.
            stack.enter_context(locks.taken(folder.with_name(f".{folder.name}.lock"), wait=True))
        except OSError as error:
            raise ModelError(
                f"{cache_folder}: cannot be written ({error.strerror}); set MOTIF_LITE_CACHE to another folder"
            ) from None
        if not folder.exists():
            course = _course(task, num_rounds, max_tokens)
            with torch.random.fork_rng(devices=[]), keeping_freed_memory():
                model = _warm_started(course, seed, on_progress)
            _save(model, course.tokenizer, folder)
    return folder


def _course(task: str, num_rounds: int, max_tokens: int) -> _Course:
    """Build the tokenizer and measure with it how many steps fit into a round."""
    tokenizer = make_tokenizer(num_rounds)
    longest = chain_sum.TASKS[task].lengths[1]
    replies_by_length = [chain_sum.reply([0] * longest, 0, stop) for stop in range(1, longest)]
    num_fitting = sum(len(tokenizer.encode(reply)) + 1 <= max_tokens for reply in replies_by_length)
    if num_fitting == 0:
        raise ModelError(
            f"the tiny model cannot do one step of chain_sum in {max_tokens} tokens; raise rollout.futures.max_tokens "
            f"to {len(tokenizer.encode(replies_by_length[0])) + 1} or more"
        )
    return _Course(task, tokenizer, num_rounds, max_tokens, num_fitting)


def _warm_started(course: _Course, seed: int, on_progress: OnProgress) -> Qwen2ForCausalLM:
    """Try seeds derived from ``seed`` until one passes the check: a few of them learn too little."""
    low, high = _ACCEPTED
    seen = []
    for attempt in range(_NUM_ATTEMPTS):
        rng = random.Random(f"tiny/{seed}/{attempt}")
        torch.manual_seed(rng.getrandbits(63))
        model = _untrained(course.tokenizer)
        _imitate(model, course, rng, on_progress)
        seen.append(_sampled_accuracy(model, course, seed))
        if low <= seen[-1] <= high:
            return model
    raise ModelError(
        f"the tiny model's warm start failed {_NUM_ATTEMPTS} times: it then solves "
        f"{', '.join(f'{accuracy:.0%}' for accuracy in seen)} of the problems, not {low:.0%} to {high:.0%}; "
        "take another seed, or the rounds and token limits of recipes/tiny_cpu.toml"
    )


def make_tokenizer(num_rounds: int) -> PreTrainedTokenizerFast:
    """One token per byte, so that any text can be encoded, and one per fixed phrase, so that prompts are short."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    notices = [progress_notice(i, num_rounds, "\0").split("\0") for i in range(1, num_rounds)]
    phrases = [*TAGS, "\\boxed{", *dict.fromkeys(part for notice in notices for part in notice)]
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
        model_max_length=_CONTEXT_TOKENS,
    )


def _untrained(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Random weights. Wider than usual (``initializer_range``), and with a short rope, or copying is learned late."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=TINY.hidden_size,
        intermediate_size=TINY.intermediate_size,
        num_hidden_layers=TINY.num_layers,
        num_attention_heads=TINY.num_heads,
        num_key_value_heads=TINY.kv_dim * TINY.num_heads // TINY.attention_dim,
        max_position_embeddings=_CONTEXT_TOKENS,
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


def _imitate(model: Qwen2ForCausalLM, course: _Course, rng: random.Random, on_progress: OnProgress) -> None:
    """Train on demonstrations, each step on fresh ones; only the replies' tokens carry loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _learning_rate_factor)
    model.train()
    for step in range(_NUM_STEPS):
        demonstrations = _demonstrations(course, rng, step / _NUM_STEPS)
        batch = _batch(course.tokenizer, list(islice(demonstrations, _BATCH_SIZE)))
        model(**batch).loss.backward()
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


def _demonstrations(course: _Course, rng: random.Random, done: float) -> Iterator[tuple[Conversation, str]]:
    """Rounds to imitate, without end; ``done`` is the share of the warm start that is over."""
    longest = min(course.longest, 3 + round((course.longest - 3) * done / _LONG_CHAINS))
    while True:
        is_long = done > _SHORT_CHAINS or rng.random() < 0.75
        num_digits = rng.randint(max(1, longest - 2), longest) if is_long else rng.randint(1, min(longest, 5))
        chain = [rng.randrange(10 if rng.random() < done / _ALL_DIGITS else 3) for _ in range(num_digits)]
        yield from _demonstrated_run(course, rng, chain)


def _demonstrated_run(course: _Course, rng: random.Random, chain: list[int]) -> Iterator[tuple[Conversation, str]]:
    """One run in which every line is right, and only the number of steps in a round may be wrong.

    Openings do any number of steps, also one or two more than fit: what is cut off passes nothing of use on, and
    the next round starts again. Later rounds always do as many as fit: reinforcement learning on openings does
    not train them but lets them drift, and a habit without exception drifts least.
    """
    question, start = chain_sum.question(chain), 0
    user = question
    for round_number in range(1, course.num_rounds + 1):
        stop = min(len(chain), start + _num_steps(course, rng, round_number))
        reply = chain_sum.reply(chain, start, stop, course.rules)
        yield conversation("", user), reply
        seen = course.tokenizer.decode(course.tokenizer.encode(reply)[: course.max_tokens])
        note = reply_format.progress(seen)
        start = len(chain) if "\\boxed{" in note else chain_sum.read_progress(question, note, course.rules) or 0
        user = question + progress_notice(round_number, course.num_rounds, note)


def _num_steps(course: _Course, rng: random.Random, round_number: int) -> int:
    """How many steps a demonstrated round does, unless the chain ends before."""
    return rng.randint(1, course.num_fitting + 2) if round_number == 1 else course.num_fitting


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
    """The prompt as text, up to where the assistant begins."""
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _sampled_accuracy(model: Qwen2ForCausalLM, course: _Course, seed: int) -> float:
    """Share of held-out problems solved in all rounds at temperature 1, thought through and graded as in a run."""
    policy = LocalPolicy(model, course.tokenizer, context_tokens=_CONTEXT_TOKENS, max_width=_NUM_CHECKED)
    problems = chain_sum.problems(_NUM_CHECKED, seed=seed, split="warm start", name=course.task)
    sampling = Sampling(max_tokens=course.max_tokens)
    paths = think(policy, MultiRound("", course.num_rounds), problems, sampling, sampling, seed=seed)
    return sum(map(is_solved, paths)) / len(paths)


def _save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write to a temporary folder and rename it, so that an interrupted build leaves nothing half-made."""
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
