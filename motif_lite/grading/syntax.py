r"""The syntax tree of a value: numbers, fractions, roots, π, e, i and the operations between them.

`parse` reads an answer in the spelling of `notation.normalized`. It knows no algebra and evaluates nothing but exact
rational numbers; it is there to see how an answer is written.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

_LARGEST_EXPONENT = 400
_DEEPEST = 40
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"

_TOKENS = re.compile(
    rf"(?P<mixed>{_DIGITS}(?: [0-9]+ */ *[0-9]+|\s*\\frac\{{\s*[0-9]+\s*\}}\{{\s*[0-9]+\s*\}}))(?![0-9]*\.?[0-9])"
    r"|(?P<repeating>[0-9]*\.[0-9]*\\overline\{[0-9]+\})"
    rf"|(?P<number>(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+))|(?P<command>\\(?:[A-Za-z]+|.))|(?P<letter>[A-Za-z])"
    r"|(?P<sign>[-+*/^_(){}\[\]!|:])|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)

_CONSTANTS = {"\\pi": "pi", "e": "e", "i": "i"}
_AROUND = {
    "|": ("|", "absolute value"), "\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceiling"),
}  # fmt: skip
_FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg",
    "exp", "gcd", "lcm", "max", "min", "det", "arg", "Re", "Im",
})  # fmt: skip
_GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "rho", "sigma", "tau", "phi", "omega",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """A number, a constant, a letter, or an operation on others.

    Attributes:
        kind: ``number``, ``mixed``, ``constant``, ``letter``, ``negative``, ``sum``, ``product``, ``fraction``,
            ``power``, ``root``, ``percent``, or another operation's name.
        text: As written.
        value: Of a number.
    """

    kind: str
    text: str
    args: tuple["Node", ...] = ()
    value: Fraction | None = None


class _Unreadable(Exception):
    """Not in the grammar."""


class _Parser:
    """Recursive descent over the tokens of one answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [match for match in _TOKENS.finditer(text) if match.lastgroup != "space"]
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def kind(self) -> str:
        return str(self.tokens[self.at].lastgroup) if self.at < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if not token or (expected is not None and token != expected):
            raise _Unreadable
        self.at += 1
        return token

    def written(self, start: int) -> str:
        """The source of the tokens from one on to the last that was taken."""
        return self.text[self.tokens[start].start() : self.tokens[self.at - 1].end()]

    def sum(self) -> Node:
        start = self.at
        terms = [self.signed()]
        while self.peek() in ("+", "-"):
            terms.append(self.signed())
        return terms[0] if len(terms) == 1 else self.node("sum", start, *terms)

    def signed(self) -> Node:
        start, sign = self.at, 1
        while self.peek() in ("+", "-"):
            sign *= -1 if self.take() == "-" else 1
        term = self.product()
        return term if sign > 0 else self.node("negative", start, term)

    def product(self) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _Unreadable
        start = self.at
        factors = [self.power()]
        while token := self.peek():
            if token in ("\\cdot", "\\times", "*"):
                self.take()
                factors.append(self.factor_with_sign())
            elif token in ("/", ":"):
                self.take()
                above = factors.pop()
                factors.append(self.node("fraction", start, above, self.factor_with_sign()))
            elif self.begins_factor():
                factors.append(self.power())
            else:
                break
        self.depth -= 1
        return factors[0] if len(factors) == 1 else self.node("product", start, *factors)

    def factor_with_sign(self) -> Node:
        start = self.at
        if self.peek() == "-":
            self.take()
            return self.node("negative", start, self.power())
        return self.power()

    def begins_factor(self) -> bool:
        token, kind = self.peek(), self.kind()
        if kind in ("number", "mixed") and self.at and self.tokens[self.at - 1].lastgroup in ("number", "mixed"):
            raise _Unreadable  # two numbers side by side
        return kind in ("number", "mixed", "repeating", "letter", "command") or token in ("(", "{")

    def power(self) -> Node:
        start = self.at
        base = self.base()
        while self.peek() in ("!", "\\%", "^"):
            sign = self.take()
            if sign == "^":
                base = self.node("power", start, base, self.script())
            else:
                base = self.node("factorial" if sign == "!" else "percent", start, base)
        return base

    def script(self) -> Node:
        return self.group("{", "}") if self.peek() == "{" else self.factor_with_sign_of_one()

    def factor_with_sign_of_one(self) -> Node:
        if self.kind() == "number" and len(self.peek()) > 1:  # x^12 is x^1 2 in LaTeX, and nobody means it
            raise _Unreadable
        return self.base()

    def group(self, left: str, right: str) -> Node:
        self.take(left)
        inner = self.sum()
        self.take(right)
        return inner

    def base(self) -> Node:
        start, kind = self.at, self.kind()
        token = self.take()
        if kind == "number":
            return Node(
                "number", token, value=Fraction(f"0{token}0".replace(",", "")) if "." in token else _whole(token)
            )
        if kind == "repeating":
            return Node("number", token, value=_repeating(token))
        if kind == "mixed":
            whole, above, below = (int(part.replace(",", "")) for part in re.findall(_DIGITS, token))
            if not below:
                raise _Unreadable
            return Node("mixed", token, value=whole + Fraction(above, below))
        if token in _CONSTANTS:
            return Node("constant", _CONSTANTS[token])
        if kind == "letter":
            return Node("letter", token)
        if token in ("(", "{"):
            self.at = start
            return self.group(token, ")" if token == "(" else "}")
        return self.command(token, start)

    def command(self, token: str, start: int) -> Node:
        if token == "\\frac":
            return self.node("fraction", start, self.group("{", "}"), self.group("{", "}"))
        if token == "\\sqrt":
            index = self.group("[", "]") if self.peek() == "[" else Node("number", "2", value=Fraction(2))
            return self.node("root", start, self.group("{", "}"), index)
        if token == "\\binom":
            return self.node("binomial", start, self.group("{", "}"), self.group("{", "}"))
        if token in _AROUND:
            inner = self.sum()
            self.take(_AROUND[token][0])
            return self.node(_AROUND[token][1], start, inner)
        if token[1:] in _FUNCTIONS:
            while self.peek() in ("_", "^"):
                self.take()
                self.script()
            return self.node(token[1:], start, self.power())
        if token[1:] in _GREEK:
            return Node("letter", token)
        raise _Unreadable

    def node(self, kind: str, start: int, *args: Node) -> Node:
        return Node(kind, self.written(start), args)


def _whole(token: str) -> Fraction:
    return Fraction(int(token.replace(",", "")))


def _repeating(token: str) -> Fraction:
    r"""``0.1\overline{6}`` is 1/6."""
    whole, _, rest = token.partition(".")
    once, _, again = rest.removesuffix("}").partition("\\overline{")
    shift = 10 ** len(once)
    return Fraction(int(whole + once or 0), shift) + Fraction(int(again), (10 ** len(again) - 1) * shift)


def parse(text: str) -> Node | None:
    """The tree of an expression; None if it is not in the grammar."""
    if len(text) > 1000:
        return None
    parser = _Parser(text)
    try:
        tree = parser.sum()
    except _Unreadable:
        return None
    return tree if parser.at == len(parser.tokens) else None


def rational(node: Node) -> Fraction | None:
    """The exact value of a tree of rational operations with exponents of moderate size; None for anything else."""
    if node.value is not None:
        return node.value
    args = [rational(arg) for arg in node.args]
    if not args or any(arg is None for arg in args):
        return None
    return _operation(node.kind, [arg for arg in args if arg is not None])


def _operation(kind: str, args: list[Fraction]) -> Fraction | None:
    if kind == "negative":
        return -args[0]
    if kind == "sum":
        return sum(args, Fraction(0))
    if kind == "product":
        result = Fraction(1)
        for arg in args:
            result *= arg
        return result
    if kind == "fraction":
        return args[0] / args[1] if args[1] else None
    if kind == "power":
        return _power(*args)
    if kind == "root":
        return _root(*args)
    return None


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or abs(exponent) > _LARGEST_EXPONENT or max(base.numerator, base.denominator) > 10**9:
        return None
    return Fraction(base**exponent.numerator) if base or exponent > 0 else None


def _root(radicand: Fraction, index: Fraction) -> Fraction | None:
    """The square root of a perfect square."""
    if index != 2 or radicand < 0 or max(radicand.numerator, radicand.denominator) > 10**100:
        return None
    above, below = isqrt(radicand.numerator), isqrt(radicand.denominator)
    root = Fraction(above, below)
    return root if root * root == radicand else None
