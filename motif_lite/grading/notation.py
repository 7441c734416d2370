r"""One spelling for what LaTeX and models write in many: ``\dfrac12``, ``½`` and ``{1 \over 2}``.

Both sides of a comparison go through `normalized`. It changes how an answer is written, never what it says: no unit,
name or word is removed here. Characters are translated by a table of their own, as Unicode's compatibility forms turn
``x²`` into ``x2``.
"""

import re
import unicodedata
from functools import lru_cache

from motif_lite.grading.characters import CHARACTERS, LOWERED, RAISED, SYNONYMS

_TEXT = r"text|textbf|textit|textrm|textsf|texttt|textnormal|textup|mbox|hbox|emph|mathrm|operatorname\*?|rm|textsc"
_FONT = r"mathbf|mathit|mathcal|mathsf|mathtt|mathnormal|mathfrak|mathscr|boldsymbol|bm|pmb|bf|it|sf|tt|cal|underline"
_SIZE = (
    r"displaystyle|textstyle|scriptstyle|limits|nolimits|left|right|[bB]igg?[lrm]?|mleft|mright|middle|large|Large|"
    r"LARGE|huge|Huge|normalsize|small|scriptscriptstyle|mathstrut|strut|centering|noindent|nonumber"
)

_ANY_FONT = re.compile(rf"\\(?:{_TEXT}|{_FONT})(?![A-Za-z])|\\text")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SIZES = re.compile(rf"\\(?:{_SIZE})(?![A-Za-z])\.?")
_COLOR = re.compile(
    r"\\color(?:box)?\s*\{[^{}]*\}|\\fbox(?![a-z])|\\textcolor\s*\{[^{}]*\}|\\hspace\*?\s*\{[^{}]*\}|\\v?phantom\s*\{[^{}]*\}"
)
_SWITCH = re.compile(rf"\{{\s*\\({_TEXT}|{_FONT})(?![A-Za-z])\s*([^{{}}]*)\}}")
_FONTS = re.compile(rf"\\(?:{_FONT})(?![A-Za-z])")
_TEXTS = re.compile(rf"\\(?:{_TEXT})(?![A-Za-z])\s*\{{([^{{}}]*)\}}")
_BARE_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|mathrm)\s+([A-Za-z]+)")
_NO_WORD = re.compile(r"[^A-Za-z\u00c0-\U0010ffff]*|[A-Za-z]'*")
_GLUED = re.compile(r"(?<=[0-9])\s*(?:,\s*\\!|\{\s*,\s*\}|\\text\{,\})\s*(?=[0-9])")
_SPACES = re.compile(
    r"(?<!\\)\\[,;:> ~\t\n]|~|\\(?:thinspace|enspace|medspace|thickspace|space|nobreakspace)(?![A-Za-z])|[\t\n\r]"
)
_GAP = re.compile(r"\s{2,}")
_WIDE = re.compile(r"\\q?quad(?![A-Za-z])")
_ROW_GAP = re.compile(r"(\\\\)\s*\[\s*-?[0-9.]+\s*(?:pt|em|ex|mm|cm|in)\s*\]")
_HEADING = re.compile(r"\\text\{\s*([A-Za-z][A-Za-z ]*?)\s*:\s*\}(?=.*[0-9])")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z])")
_OVER = re.compile(r"\{([^{}]*?)\\over(?![A-Za-z])([^{}]*)\}")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_TOKEN = re.compile(r"\\[A-Za-z]+|[A-Za-z0-9]")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BASE_TEN = re.compile(r"([-+]?[0-9][0-9.,]*)_(?:10|\{\s*10\s*\})")
_STYLED = re.compile("[\U0001d400-\U0001d7ff]+")
_SENTENCE = re.compile(r"\\text\{([^{}]*[0-9][^{}]*)\}")
_ROOT_SIGN = re.compile(r"√\s*(?:([0-9.]+)|\(([^()]*)\)|([A-Za-z]|\\[a-z]+))")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\^\s*\{?\\degree\}?|\\degree(?![a-z])|°|º")
_PERCENT = re.compile(
    r"\\?%|\\text\{\s*\\?(?:%|percent|percents|per cent|percentage|pct)\.?\s*\}"
    r"|(?<![A-Za-z])(?:percent|pct|per cent)(?![A-Za-z])"
)
_GROUPED = re.compile(
    r"(?<![0-9A-Za-z.,'])[0-9]{1,3}(?:([ '])[0-9]{3})(?:\1[0-9]{3})*(?![0-9,'])(?!\s*[/0-9])(?! *\\frac)"
)
_RAISED_IN_PARENTHESES = re.compile(r"\^\s*\(([^()]*)\)")
_EXPONENTIAL = re.compile(r"\\exp\s*(?:\(([^()]*)\)|\{([^{}]*)\})")
_PLAIN_ROOT = re.compile(r"(?<![A-Za-z\\])sqrt\s*\(([^()]*)\)")
_PLAIN_NAMES = re.compile(r"(?<![A-Za-z\\])(pi|infinity|infty)(?![A-Za-z])")
_MARKDOWN = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_RELATIONS = (("<=", r"\le "), (">=", r"\ge "), ("!=", r"\ne "), ("=<", r"\le "), ("==", "="), ("=>", r"\Rightarrow "))
_BRACKETS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("``", "''"), ("`", "`"))
_OPENERS = frozenset(left[0] for left, _ in _BRACKETS)
_WRAPPERS = frozenset(' \n\t{$`"*')
_TAIL = re.compile(r"(?:\s|\\\\|(?<!\\)\\$|(?<![.0-9])\.(?=$)|(?<=[0-9])\.$|,$|;$)+$")


_TAIL_ENDS = ("\\", ".", ",", ";")


@lru_cache(maxsize=2000)
def normalized(text: str) -> str:
    r"""The answer in one spelling: ``\frac{1}{2}``, ``\sqrt{3}``, ``\text{cm}``, ``\%``, ``^\circ``, single spaces."""
    text = _in_ascii(text)
    if "\\over" in text:
        text = _OVER.sub(r"{\\frac{\1}{\2}}", text)
    text = _unwrapped(text)
    if text.isalnum():
        return text
    if "\\" in text or "~" in text or "{" in text:
        text = _in_plain_latex(text)
    for ascii_sign, command in _RELATIONS:
        if ascii_sign in text:
            text = text.replace(ascii_sign, command)
    if "%" in text or "pct" in text or "per" in text:
        text = _PERCENT.sub(r"\\%", text)
    text = _with_roots_and_fractions(text)
    if " " in text or "'" in text:
        text = _GROUPED.sub(_without_gaps, _GAP.sub(" ", text).strip())
    if "_" in text and (in_base_ten := _BASE_TEN.fullmatch(text)):
        return in_base_ten[1]
    if sentence := _SENTENCE.fullmatch(text):
        text = sentence[1]
    return _unwrapped(text)


def _in_ascii(text: str) -> str:
    if text.isascii():
        return text
    text = _ROOT_SIGN.sub(lambda match: rf"\sqrt{{{match[1] or match[2] or match[3]}}}", text)
    text = _RAISED_RUN.sub(lambda match: f"^{{{match[0].translate(RAISED)}}}", text)
    text = _LOWERED_RUN.sub(lambda match: f"_{{{match[0].translate(LOWERED)}}}", text)
    text = _STYLED.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return _DEGREES.sub(r"^\\circ ", text).translate(CHARACTERS)


def _in_plain_latex(text: str) -> str:
    if "\\\\" in text:
        text = _ROW_GAP.sub(r"\1 ", text)
    if "\\\\" in text and "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = _COMMAND.sub(_synonym, _COLOR.sub("", _SIZES.sub("", text.replace(r"\$", "$"))))
    text = _in_one_font(text)
    if "," in text:
        text = _GLUED.sub("", text)
    text = _SPACES.sub(" ", text.replace("\\!", ""))
    if ":" in text:
        text = _HEADING.sub(r"\\text{\1}=", text)
    if "quad" in text:
        text = _WIDE.sub(r" \\quad ", text)
    return _DEGREES.sub(r"^\\circ ", text) if "\\circ" in text or "\\degree" in text else text


def _without_gaps(number: re.Match[str]) -> str:
    return number[0].replace(" ", "").replace("'", "")


def _synonym(match: re.Match[str]) -> str:
    name = SYNONYMS.get(match[1])
    if name is None:
        return match[0]
    if name in "{}":
        return f"\\{name}"
    return f"\\{name}" if name.isalpha() and len(name) > 1 else name


def _unwrapped(text: str) -> str:
    r"""Without what merely surrounds the answer: dollar signs, quotes, asterisks, braces, a final full stop."""
    if text[-1:].isalnum() and text[:1] not in _WRAPPERS:
        return text
    before = None
    while before != text:
        before, text = text, text.strip()
        if text.endswith(_TAIL_ENDS) and text.strip(" ."):
            text = _TAIL.sub("", text).strip()
        if text.startswith("**"):
            text = _MARKDOWN.sub(r"\1", text)
        for left, right in _BRACKETS if text[:1] in _OPENERS else ():
            inner = text[len(left) : -len(right)]
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right) and left not in inner:
                text = inner
        if text.startswith("{") and text.endswith("}") and closing(text, 0) == len(text) - 1:
            text = text[1:-1]
    return text


def _in_one_font(text: str) -> str:
    if not _ANY_FONT.search(text):
        return text
    text = _BARE_TEXT.sub(r"\\text{\1}", text) if "\\text" in text or "\\mathrm" in text else text
    for _ in range(3):  # fonts inside fonts
        before = text
        text = _SWITCH.sub(r"\\\1{\2}", text)
        text = _TEXTS.sub(_as_text, text)
        text = _without_fonts(text)
        if text == before:
            break
    return text


def _without_fonts(text: str) -> str:
    while match := _FONTS.search(text):
        inside, end = _argument(text, match.end())
        words = inside or ""
        text = text[: match.start()] + (words if "\\" in words else _in_words(words)) + text[end:]
    return text


def _as_text(match: re.Match[str]) -> str:
    before = match.string[: match.start()].rstrip()
    if match[1].strip() in ("i", "e"):
        return match[1]
    if len(match[1].strip()) == 1 and match[1].strip().isalpha() and before.endswith(tuple("0123456789})")):
        return rf"\text{{{match[1]}}}"  # behind a number, a letter in upright type is a unit
    if before.endswith(("}{", "\\frac{")) and match[1].strip().isalpha():
        return rf"\text{{{match[1]}}}"
    return _in_words(match[1])


def _in_words(inside: str) -> str:
    r"""Words as ``\text{…}``; numbers, signs and single letters need no font."""
    return inside if _NO_WORD.fullmatch(inside.strip()) and "\\" not in inside else rf"\text{{{inside}}}"


def _with_roots_and_fractions(text: str) -> str:
    if "sqrt(" in text or "sqrt (" in text:
        text = _PLAIN_ROOT.sub(r"\\sqrt{\1}", text)
    if "^" in text:
        text = _RAISED_IN_PARENTHESES.sub(r"^{\1}", text)
    if "\\exp" in text:
        text = _EXPONENTIAL.sub(lambda match: f"e^{{{match[1] or match[2]}}}", text)
    if "pi" in text or "inf" in text:
        text = _PLAIN_NAMES.sub(lambda match: r"\pi " if match[1] == "pi" else r"\infty ", text)
    if "\\frac" in text:
        text = _braced(text, "\\frac", 2)
    return _braced(text, "\\sqrt", 1) if "\\sqrt" in text else text


def _braced(text: str, command: str, number: int) -> str:
    r"""Every argument of a command in braces: ``\frac{1+a}c`` is ``\frac{1+a}{c}``."""
    parts, at = [], 0
    for match in re.finditer(rf"{re.escape(command)}(?![A-Za-z])", text):
        if match.start() < at:
            continue
        end = match.end()
        parts.append(text[at:end])
        at = end
        if command == "\\sqrt" and (index := re.match(r"\s*\[[^\[\]]*\]", text[at:])):
            parts.append(index[0].strip())
            at += index.end()
        for _ in range(number):
            argument, at = _argument(text, at)
            if argument is None:
                break
            parts.append(f"{{{_braced(argument, command, number) if command in argument else argument}}}")
    return "".join([*parts, text[at:]])


def _argument(text: str, at: int) -> tuple[str | None, int]:
    """The argument of a command that begins there, without its braces, and where it ends."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at < len(text) and text[at] == "{":
        end = closing(text, at)
        return (None, at) if end < 0 else (text[at + 1 : end], end + 1)
    if match := _TOKEN.match(text, at):
        return match[0], match.end()
    return None, at


def closing(text: str, at: int) -> int:
    """Where the brace that opens there is closed; -1 if nowhere."""
    depth = 0
    for match in _BRACE.finditer(text, at):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return -1
