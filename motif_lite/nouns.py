"""The nouns that every module shares: what is asked, what is said, and how it is sampled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field


class Message(TypedDict):
    """One turn of a chat, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


Conversation = list[Message]

TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
"""What stands around a reply's thinking, and around its progress or final answer."""

OnProgress = Callable[[int, int], None]
"""Called with (units done, units in all) while something long is under way."""


@dataclass(frozen=True, slots=True)
class TokenProgress:
    """How far a call for replies has come.

    Attributes:
        read: Prompt tokens that were read; what prompts share is read once.
        to_read: All that have to be read, as far as that is known.
        written: New tokens.
        settled: New tokens, and those that replies ended without.
        to_write: New tokens if every reply runs to its limit.
    """

    read: int
    to_read: int
    written: int
    settled: int
    to_write: int

    @property
    def share(self) -> float:
        """From 0 to 1: of tokens to read and to write."""
        return (self.read + self.settled) / (self.to_read + self.to_write)


OnTokens = Callable[[TokenProgress], None]
"""Called while replies are generated."""

OnText = Callable[[int, str | None], None]
"""Called with a reply's number and the next piece of its text, with None when it has ended; all pieces are its text."""


class NotWanted(Exception):
    """Raised by an `OnText`: nobody waits for this reply any longer. It ends where it stands, and the others go on."""


ReadProgress = Callable[[str, str], int | None]
"""Given a question and a progress note, how many steps the note stands for; None if it is not true of the question."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with the one answer that counts as right.

    Attributes:
        id: Stable within its data set, e.g. ``gsm8k/17``.
        question: As the policy sees it.
        gold: The final answer alone, without a box; or a rule that tells right answers (`grading.rule_golds`).
        twin_of: The question that this one was made from (`tasks.twins`); empty where it is nobody's twin.
        level: Of a curriculum, from 0; 0 where there is none.
    """

    id: str
    question: str
    gold: str
    twin_of: str = ""
    level: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a policy wrote for one prompt. Untrusted: it may be wrong, huge or hostile.

    Attributes:
        text: Decoded, without special tokens.
        num_tokens: Generated tokens, the end-of-turn token included.
        finish: ``stop`` if the policy ended its turn, ``length`` if it was cut off.
        token_ids: The generated tokens; empty where only text is known.
        logprobs: Their log-probabilities under the policy at temperature 1; empty where they were not measured.
    """

    text: str
    num_tokens: int
    finish: Literal["stop", "length"]
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    logprobs: tuple[float, ...] = field(default=(), repr=False, compare=False)  # they differ in their last bits


@dataclass(frozen=True, slots=True)
class Turn:
    """One round: the rendered prompt (chat template applied) and the reply to it."""

    prompt: str
    reply: Reply


def final_text(replies: Sequence[str], *, is_one_text: bool) -> str:
    """What is graded of the replies of all rounds: that of the last one, or all of them where they are one text."""
    return "".join(replies) if is_one_text else replies[-1]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """An opening with one future: the turns of rounds 1 to n, in order.

    Attributes:
        is_one_text: Each reply goes on where the one before was cut off, as chunks of one text do.
    """

    problem: Problem
    turns: tuple[Turn, ...]
    is_one_text: bool = False

    @property
    def final(self) -> Reply:
        """The only reply whose answer is graded: the last round's, or the whole text where rounds are its chunks.

        A whole text has no tokens here: each chunk was drawn after another prompt.
        """
        last = self.turns[-1].reply
        if not self.is_one_text:
            return last
        text = final_text([turn.reply.text for turn in self.turns], is_one_text=True)
        return Reply(text, self.num_tokens, last.finish)

    def after(self, round_number: int) -> "Trajectory":
        """As it was when this round ended, counted from 1; the whole of it where it ended earlier."""
        return replace(self, turns=self.turns[:round_number])

    @property
    def num_tokens(self) -> int:
        """Tokens generated over all rounds."""
        return sum(turn.reply.num_tokens for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Opening:
    """A first-round response, the only one that is trained, with the futures sampled from it.

    Attributes:
        futures: k trajectories that all begin with ``turn``; in a single-round run one, of that turn alone.
        shared: Futures of other openings of the group that pass on the same progress, where futures are shared
            (`allocation`): draws from the distribution that its own come from.
    """

    problem: Problem
    turn: Turn
    futures: tuple[Trajectory, ...]
    shared: tuple[Trajectory, ...] = ()

    @property
    def evidence(self) -> tuple[Trajectory, ...]:
        """All futures that the opening's value is the mean of."""
        return self.futures + self.shared


MaxTokens = Annotated[int, Field(ge=1, le=131_072, description="Maximum tokens of a reply; longer ones are cut off.")]
Temperature = Annotated[
    float, Field(ge=0.0, le=5.0, allow_inf_nan=False, description="Softmax temperature; 0 is greedy decoding.")
]
TopP = Annotated[
    float,
    Field(
        gt=0.0, le=1.0, allow_inf_nan=False,
        description="Nucleus sampling: from the smallest set of tokens with this total probability; 1 is off.",
    ),
]  # fmt: skip


class Sampling(BaseModel):
    """How tokens are sampled, and how many at most."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    max_tokens: MaxTokens = 1024
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    """Sample from the k likeliest tokens only; 0 is off."""
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0, allow_inf_nan=False)
    """Sample only from tokens with at least this share of the likeliest token's probability; 0 is off."""
    stop: list[Annotated[str, Field(min_length=1, max_length=64)]] = []
    """Texts that end a reply when they appear in it, e.g. `["</answer>"]`."""
