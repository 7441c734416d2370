"""The tag contract: ``<reasoning>`` holds the thinking, ``<answer>`` the progress or the final answer.

Models that think in a block of their own (``<think>``) write it before all that; their form is that of what follows.
Every function takes any text whatever and never raises: a reply that breaks the contract is data.
"""

import re

from motif_lite.nouns import TAGS

# DOTALL is what the reference forgot: without it no reply of more than one line has a form at all.
_SOFT_START = re.compile(r"<reasoning>.*?</reasoning>\s*<answer>", re.DOTALL)
_STRICT = re.compile(r"<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n?", re.DOTALL)

# Where the prompt has opened the block, a reply begins inside it and has the closing mark alone.
_OPENED = re.compile(r"\s*(?:<(?:think|thinking|thought)>|\[THINK\])")
_CLOSED = re.compile(r"(?:</(?:think|thinking|thought)>|\[/THINK\])\s*")

_POINTS_PER_MARK = 0.125
_PENALTY_PER_TRAILING_CHARACTER = 0.001


def written(reasoning: str, answer: str) -> str:
    """A reply in the strict format.

    Args:
        answer: What stands in the answer section: progress, or the final answer.
    """
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>"


def progress(text: str) -> str:
    """What a round passes on: the text after the last ``<answer>`` up to ``</answer>``, stripped.

    A reply without tags passes on all of itself (reference code, ``extract_xml_answer``).
    """
    return text.rpartition("<answer>")[2].partition("</answer>")[0].strip()


def behind_thinking(text: str) -> str:
    """What follows the think block that a reply begins with; nothing where the block is never closed.

    A reply that has none, or that begins with ``<reasoning>``, is returned as it is.
    """
    if text.startswith("<reasoning>"):
        return text
    closed = _CLOSED.search(text)
    if closed is not None:
        return text[closed.end() :]
    return "" if _OPENED.match(text) else text


def answer_start(text: str) -> int:
    """Index at which the last ``<answer>`` section begins; the length of the text if there is none."""
    return (text.rfind("<answer>") + len("<answer>")) if "<answer>" in text else len(text)


def answer_end(text: str) -> int:
    """Index at which the last ``<answer>`` section ends: its closing tag, or the end of the text."""
    end = text.find("</answer>", answer_start(text))
    return len(text) if end < 0 else end


def has_soft_format(text: str) -> bool:
    """Whether the reply begins with both sections in order, whatever stands around their contents."""
    text = behind_thinking(text)
    start = _SOFT_START.match(text)  # its end is sought apart: in one pattern hostile text takes quadratic time
    return start is not None and "</answer>" in text[start.end() :]


def has_strict_format(text: str) -> bool:
    """Whether the reply is the two sections, each tag on a line of its own, and nothing else."""
    text = behind_thinking(text)
    return all(text.count(tag) == 1 for tag in TAGS) and _STRICT.fullmatch(text) is not None


def tag_points(text: str) -> float:
    """Up to 0.5: an eighth for each of the four tags that stands exactly once on a line of its own.

    The points of the two answer tags shrink by 0.001 each, down to 0, per character that follows the first
    ``</answer>``. The reference (``count_xml``) has no such floor, charges only where ``</answer>`` begins a line, and
    charges the *whole* reply where no newline follows it, which is how chat models end; here a final newline is free.
    """
    text = behind_thinking(text)
    text = text + "\n" if text.endswith("</answer>") else text
    trailing = text.partition("</answer>")[2].removeprefix("\n")
    per_answer_tag = max(0.0, _POINTS_PER_MARK - _PENALTY_PER_TRAILING_CHARACTER * len(trailing))
    points = _POINTS_PER_MARK * (text.count("<reasoning>\n") == 1)
    points += _POINTS_PER_MARK * (text.count("\n</reasoning>\n") == 1)
    points += per_answer_tag * (text.count("\n<answer>\n") == 1)
    points += per_answer_tag * (text.count("\n</answer>") == 1)
    return points
