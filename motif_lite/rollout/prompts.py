"""What the policy is told: the system prompt and the user message of each round.

The user messages follow the reference code to the letter (purbeshmitra/MOTIF, ``motif.py``), for n rounds in
general: the question; after round i ``Progress in round i: "..."``; before the last round a notice that it
is final, whose last sentence a recipe may replace. The system prompts are our own wording to the same effect
(paper, section 3).
"""

from motif_lite.nouns import Conversation
from motif_lite.recipe.schema import FINAL_INSTRUCTION

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

_FORMAT = """\
Write every reply in exactly this form:
<reasoning>
your thinking
</reasoning>
<answer>
{answer}
</answer>"""

_MULTI_ROUND = """\
You are a careful problem solver. You work on the user's question over {num_rounds} rounds. In a round you \
think for as long as the space allows and then write down your progress. Only the question and your latest \
progress are shown to you in the next round, so the progress must hold everything worth keeping: results \
so far, what is settled, and what to do next.

{format}

When the user says that the round is the final ({ordinal}) one, finish the solution and give the final answer \
inside the answer tags, enclosed in \\boxed{{}}. {graded}"""

_FINAL_ROUND = "Only the boxed answer of the final round is graded."

_EARLY_FINISH = (
    "If you are sure of it before, give it in the same way: a boxed answer inside the answer tags ends the work and is "
    "graded."
)

_SINGLE_ROUND = """\
You are a careful problem solver. Think about the user's question, then answer it.

{format}

Give the final answer inside the answer tags, enclosed in \\boxed{{}}. Only the boxed answer is graded."""


def ordinal(number: int) -> str:
    """English ordinal of a positive integer: ``third``, ``11th``."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    teens = 10 <= number % 100 <= 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def reply_form(answer: str) -> str:
    """How a reply has to look.

    Args:
        answer: What stands in its answer section, in words.
    """
    return _FORMAT.format(answer=answer)


def system_prompt(num_rounds: int, *, early_finish: bool = False) -> str:
    """The default system prompt of a run with this many rounds.

    Args:
        early_finish: A final answer in an earlier round ends the work.
    """
    if num_rounds == 1:
        return _SINGLE_ROUND.format(format=reply_form("your final answer"))
    return _MULTI_ROUND.format(
        num_rounds=num_rounds,
        ordinal=ordinal(num_rounds),
        format=reply_form("your progress"),
        graded=_EARLY_FINISH if early_finish else _FINAL_ROUND,
    )


def progress_notice(
    round_number: int, num_rounds: int, progress: str, final_instruction: str = FINAL_INSTRUCTION
) -> str:
    """What stands after the question in the round that follows ``round_number``.

    Args:
        round_number: The round that has just ended, from 1.
        num_rounds: Rounds in all.
        progress: What that round left behind.
        final_instruction: The end of the notice before the last round.
    """
    notice = f' Progress in round {round_number}: "{progress}"'
    if round_number + 1 == num_rounds:
        notice += f" Current round is the final ({ordinal(num_rounds)}) round. {final_instruction}"
    return notice.rstrip(" ")


def plain_question(question: str, instruction: str) -> str:
    """What a model is asked that shall solve a problem in its own way, in one reply and without tags."""
    return f"{question}\n\n{instruction}" if instruction else question


def conversation(system: str, user: str) -> Conversation:
    """System and user message; an empty system prompt is left out altogether."""
    messages: Conversation = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": user})
    return messages
