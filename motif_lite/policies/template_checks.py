"""What a chat template does with a conversation, found out by applying it.

A template is a program that came with the model. One that leaves out the system prompt, or does not open the
assistant's turn, gives prompts that look right from here, and a run that learns from them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from motif_lite.nouns import Conversation

Apply = Callable[[Conversation, bool], str]
"""Applies a template to messages; the second argument is ``add_generation_prompt``."""

_LONG = "word " * 1000
SYSTEM = f'Rules:\n1. Use <answer> tags, "quotes" & \\boxed{{}}.\n\n2. Be brief: {_LONG}end'
QUESTION = f'How many are 2 < 3?\n\n"Both" & {{none}} of </think> \\frac{{1}}{{2}} </answer> <answer> {_LONG}end'
"""Both hold what a template may look for, and are as long as a prompt may be: some cut what they are given."""
_REPLY, _NEXT = "Two are", "And then?"

_TIMES = 4
"""So often a template is applied to the same messages; one that draws at random is then found out."""

THINK_MARK = re.compile(r"<(/?)(?:think|thinking|thought)>|\[(/?)THINK\]", re.IGNORECASE)
_TO_FIRST_LINE = re.compile(r"\s*\S[^\n]*")


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How the template ends an assistant's turn.

    Attributes:
        tokens: Ids of tokens that it writes right after a reply; each ends one.
        text: What stands there where that is no token; it ends a reply, too.
    """

    tokens: tuple[int, ...] = ()
    text: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What was found out.

    Attributes:
        takes_system: The system prompt reaches the model, letter by letter, next to the question.
        takes_question: The question does.
        is_steady: The same messages give the same text.
        missing_header: What it writes in a conversation before a reply and not in a prompt for one, where it takes no
            notice of ``add_generation_prompt``; None where it asks for replies as it should.
        opens_think: The prompt ends inside a think block.
        prefill: What else the prompt begins each reply with, beyond a reply's header in a conversation; empty where
            nothing.
        sample: A prompt and a whole turn as it writes them, but for what makes them long.
        own_system: The system prompt that it writes where it is given none; empty where it writes none.
    """

    takes_system: bool
    takes_question: bool
    is_steady: bool
    missing_header: str | None
    opens_think: bool
    prefill: str
    turn_end: TurnEnd
    sample: str
    own_system: str


def examine(apply: Apply, tokenizer: Any) -> TemplateFacts:
    """Apply a template to small conversations.

    Raises:
        Exception: Of the template's own, where it takes not even a question alone.
    """
    question: Conversation = [{"role": "user", "content": QUESTION}]
    takes_system = _takes_system(apply)
    asked: Conversation = [{"role": "system", "content": SYSTEM}, *question] if takes_system else question
    prompt = apply(asked, True)
    whole, followed = _with_reply(apply, asked), _with_reply(apply, asked, _NEXT)
    return TemplateFacts(
        takes_system,
        QUESTION in prompt,
        all(apply(asked, True) == prompt for _ in range(_TIMES - 1)),
        _missing_header(prompt, apply(asked, False), whole),
        is_thinking(prompt.rpartition(QUESTION)[2]),
        _prefill(prompt, whole),
        _turn_end(whole, followed, tokenizer),
        (prompt + whole).replace(_LONG, ""),
        _own_system(apply) if takes_system else "",
    )


def _takes_system(apply: Apply) -> bool:
    try:
        prompt = apply([{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}], True)
    except Exception:  # a template is a program: besides Jinja's own errors it may divide by zero
        return False
    return SYSTEM in prompt and QUESTION in prompt


def _own_system(apply: Apply) -> str:
    """What stands in the place of the system prompt where there is none."""
    question: Conversation = [{"role": "user", "content": QUESTION}]
    given = apply([{"role": "system", "content": SYSTEM}, *question], True).partition(QUESTION)[0]
    try:
        bare = apply(question, True).partition(QUESTION)[0]
    except Exception:  # it needs a system prompt
        return ""
    before, _, after = given.partition(SYSTEM)
    has_role = bare.startswith(before) and bare.endswith(after) and len(bare) > len(before) + len(after)
    return bare[len(before) : len(bare) - len(after)].strip() if has_role else ""


def _with_reply(apply: Apply, asked: Conversation, then: str | None = None) -> str:
    """A conversation with a reply, and what the user says to it; nothing where the template takes no such."""
    conversation: Conversation = [*asked, {"role": "assistant", "content": _REPLY}]
    if then is not None:
        conversation.append({"role": "user", "content": then})
    try:
        return apply(conversation, False)
    except Exception:  # see above
        return ""


def _missing_header(prompt: str, unasked: str, whole: str) -> str | None:
    """What stands before a reply in a conversation and not in the prompt for one, where nothing asks for a reply.

    Between an instruction's closing mark and a reply there is nothing, and nothing to ask for (Mistral). A template
    may also leave part of the header to the model on purpose: then the prompt differs by being asked for.
    """
    before, reply, _ = whole.partition(_REPLY)
    if not reply or prompt != unasked:
        return None
    num_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, before, strict=False)))
    rest = before[num_shared:]
    return rest if THINK_MARK.sub("", rest).strip() else None


def _prefill(prompt: str, whole: str) -> str:
    """What a prompt has behind a reply's header; marks of think blocks and white space apart.

    A conversation with a reply tells the header. A template that writes something else there has no such part.
    """
    header, reply, _ = whole.partition(_REPLY)
    if not reply or not prompt.startswith(header.rstrip()):
        return ""
    rest = prompt[len(header.rstrip()) :].strip()
    return rest if THINK_MARK.sub("", rest).strip() else ""


def is_thinking(text: str) -> bool:
    """Whether a text ends inside a think block."""
    marks = list(THINK_MARK.finditer(text))
    return bool(marks) and not (marks[-1][1] or marks[-1][2])


def _turn_end(whole: str, followed: str, tokenizer: Any) -> TurnEnd:
    """The first token of the tokenizer's own after a reply, at the end and before another message; or the text."""
    between = followed.partition(_REPLY)[2].partition(_NEXT)[0]
    found = [_first_mark(after, tokenizer) for after in (whole.partition(_REPLY)[2], between)]
    tokens = tuple(dict.fromkeys(token for token in found if token is not None))
    text = _TO_FIRST_LINE.match(between)
    return TurnEnd(tokens, text[0].rstrip() if text and not tokens else None)


def _first_mark(text: str, tokenizer: Any) -> int | None:
    """The first token that stands for a mark; white space and the like may be tokens of their own, too."""
    marks = tokenizer.added_tokens_decoder
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return next((token for token in ids if token in marks and marks[token].content.strip(" \n\t\u2581")), None)
