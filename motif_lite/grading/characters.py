"""Characters and LaTeX commands that mean the same as others: tables for `notation`."""

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}

CHARACTERS: dict[int, int | str] = {
    ord(char): replacement
    for replacement, chars in {
        "-": "−–—‐‑‒﹣", "+": "﹢",
        " ": "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
        "": "\u200b\u200c\u200d\u2060\ufeff", ".": "。｡", ",": "，、", "'": "’‘′", "''": "″", '"': "“”", "/": "⁄∕",
        ":": "∶", "|": "∣", "(": "（", ")": "）",
    }.items()
    for char in chars
} | {
    ord(char): f"{command} "
    for char, command in {
        "×": r"\times", "·": r"\cdot", "⋅": r"\cdot", "∙": r"\cdot", "•": r"\cdot", "÷": r"\div", "±": r"\pm",
        "∓": r"\mp", "≤": r"\le", "⩽": r"\le", "≦": r"\le", "≥": r"\ge", "⩾": r"\ge", "≧": r"\ge", "≠": r"\ne",
        "≈": r"\approx", "≅": r"\cong", "≡": r"\equiv", "∞": r"\infty", "∪": r"\cup", "∩": r"\cap", "∈": r"\in",
        "∉": r"\notin", "∅": r"\emptyset", "∖": r"\setminus", "→": r"\to", "⇒": r"\Rightarrow", "∨": r"\lor",
        "∧": r"\land", "¬": r"\neg", "∠": r"\angle", "△": r"\triangle", "⟨": r"\langle", "⟩": r"\rangle",
        "⌊": r"\lfloor", "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}",
        "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "…": r"\ldots", "π": r"\pi", "∀": r"\forall",
        "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\epsilon", "θ": r"\theta",
        "λ": r"\lambda", "μ": r"\mu", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "φ": r"\phi", "ω": r"\omega",
        "Δ": r"\Delta", "Ω": r"\Omega", "∑": r"\sum", "∏": r"\prod", "∫": r"\int",
    }.items()
} | {
    ord(char): rf"\frac{{{above}}}{{{below}}}"
    for char, above, below in (
        "½12", "⅓13", "⅔23", "¼14", "¾34", "⅕15", "⅖25", "⅗35", "⅘45", "⅙16", "⅚56", "⅛18", "⅜38", "⅝58", "⅞78",
    )
} | _FULL_WIDTH  # fmt: skip

"""Characters of mathematics and of full width, as ASCII or LaTeX writes them; for `str.translate`."""

RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge",
    "lt": "<", "gt": ">", "neq": "ne", "lbrace": "{", "rbrace": "}", "lbrack": "[", "rbrack": "]", "ast": "cdot",
    "varnothing": "emptyset", "vee": "lor", "wedge": "land", "lnot": "neg", "dots": "ldots", "cdots": "ldots",
    "implies": "Rightarrow", "rightarrow": "to", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "colon": ":",
    "textdegree": "degree", "degrees": "degree", "textcirc": "degree", "cupdot": "cup", "bullet": "cdot",
    "bigcup": "cup", "bigcap": "cap",
    "lparen": "(", "rparen": ")", "textpi": "pi", "div": "/", "euro": "€", "pounds": "£", "textdollar": "$",
    "texteuro": "€", "textsterling": "£", "textcent": "¢", "cent": "¢", "textpercent": "%", "textquotesingle": "'",
    "varphi": "phi", "varepsilon": "epsilon", "imath": "i", "geqq": "ge", "leqq": "le", "backslash": "setminus",
}  # fmt: skip
"""LaTeX commands, by names with the same meaning."""
