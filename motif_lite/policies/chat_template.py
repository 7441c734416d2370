"""A tokenizer's chat template as this program applies it, and the refusal of one that cannot be trained through.

Prompts are rendered here and, where TRL samples openings, by TRL: both from the messages that `ChatTemplate.plain`
gives, with the variables in `ChatTemplate.arguments`.
"""

import re
from datetime import date
from typing import Any

from jinja2 import Environment, TemplateError
from jinja2.meta import find_undeclared_variables

from motif_lite.errors import ModelError
from motif_lite.nouns import Conversation
from motif_lite.policies.special_tokens import SpecialTokens, TemplateArguments
from motif_lite.policies.template_checks import TemplateFacts, examine
from motif_lite.recipe.spelling import nearest

_THINKING_SWITCHES = ("enable_thinking", "thinking")

_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""A tag of transformers' own."""

_OURS = frozenset({"add_generation_prompt", "documents", "messages", "raise_exception", "strftime_now", "tools"})
"""Variables of a template that are no switches of it."""

_FIX = "fix the template (chat_template.jinja, or chat_template in tokenizer_config.json)"


class FixedDate:
    """What a template calls for the time: midnight of one day, whenever it is asked."""

    def __init__(self, day: str) -> None:
        self._day = date.today() if day == "auto" else date.fromisoformat(day)

    def __call__(self, format: str) -> str:
        """The day in a format of ``strftime``."""
        return self._day.strftime(format)


class ChatTemplate:
    """The template of a tokenizer, examined.

    Args:
        tokenizer: With a chat template.
        origin: The model's name, for messages.
        num_rows: Tokens that the model knows: rows of its embedding.
        arguments: Variables for the template, as `model.chat_template_kwargs`.
        day: The date that it may write, as `model.template_date`.

    Attributes:
        facts: What was found out about it.
        folds_system: The system prompt goes to the beginning of the first user message.
        arguments: All variables, for whatever applies the template itself.

    Raises:
        ModelError: There is none, it changes or drops messages, does not ask for replies, or is not steady.
    """

    def __init__(
        self, tokenizer: Any, origin: str, num_rows: int, arguments: TemplateArguments | None = None, day: str = "auto"
    ) -> None:
        if tokenizer.chat_template is None:
            raise ModelError(f"{origin}: its tokenizer has no chat template; use an instruct model")
        self._tokenizer, self._origin = tokenizer, origin
        self._names = self._variables()
        self.arguments: TemplateArguments = dict(arguments or {})
        self._require_used(self.arguments)
        self.writes_date = "strftime_now" in self._names
        if self.writes_date:
            self.arguments["strftime_now"] = FixedDate(day)
        self._marks = SpecialTokens(tokenizer, self.arguments, num_rows)
        self.facts = self._examined()
        self.folds_system = not self.facts.takes_system
        self._require_fit(num_rows)

    def plain(self, conversation: Conversation) -> Conversation:
        """The conversation as `render` writes it: special tokens in contents are broken, the system prompt folded."""
        return self._marks.broken_in(_folded(conversation) if self.folds_system else conversation)

    def render(self, conversation: Conversation) -> str:
        """The prompt text of a conversation, ready for the reply; an assistant's last message is the reply's beginning.

        Raises:
            ModelError: The template refuses it.
        """
        messages, begun = self.plain(conversation), ""
        if messages and messages[-1]["role"] == "assistant":
            messages, begun = messages[:-1], messages[-1]["content"]
        try:
            return self._apply(messages, True) + begun
        except Exception as error:  # a template is a program: besides Jinja's own errors it may divide by zero
            raise ModelError(self._refusal(error)) from None

    def remarks(self) -> list[str]:
        """Lines about what is done for this template, or could be."""
        switch = next((name for name in _THINKING_SWITCHES if name in self._names), None)
        lines = []
        if self.folds_system:
            lines.append("its chat template has no system role; the system prompt begins the first user message")
        if self.facts.opens_think:
            lines.append("its chat template opens a think block in each prompt; formats count what follows the block")
        if switch is not None and switch not in self.arguments:
            lines.append(f"its chat template can switch thinking: --set model.chat_template_kwargs.{switch}=false")
        if self.writes_date:
            day = self.arguments["strftime_now"]("%Y-%m-%d")
            lines.append(f"its chat template writes the date; this run keeps {day} (model.template_date)")
        return [f"{self._origin}: {line}" for line in lines]

    def _apply(self, messages: Conversation, asks: bool) -> str:
        rendered: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=asks, **self.arguments
        )
        return rendered

    def _variables(self) -> set[str]:
        """Names that the template takes from outside."""
        environment, named = Environment(extensions=["jinja2.ext.loopcontrols"]), self._tokenizer.chat_template
        if isinstance(named, dict) and "default" not in named:
            raise ModelError(
                f"{self._origin}: its chat templates have names ({', '.join(sorted(named))}), and none is the default; "
                f"save the one to use as chat_template.jinja in the model's folder"
            )
        try:
            tree = environment.parse(_GENERATION.sub("", self._tokenizer.get_chat_template()))
        except (TemplateError, RecursionError) as error:
            raise ModelError(f"{self._origin}: its chat template is no template ({error}); {_FIX}") from None
        return find_undeclared_variables(tree) - environment.globals.keys()

    def _switches(self) -> set[str]:
        """Those of the names that somebody may set."""
        return self._names - _OURS - set(self._tokenizer.special_tokens_map)

    def _require_used(self, arguments: TemplateArguments) -> None:
        for name, value in arguments.items():
            if name not in self._names:
                known = sorted(self._switches())
                raise ModelError(
                    f"{self._origin}: model.chat_template_kwargs: its chat template does not use {name!r}"
                    f"{nearest(name, known)}; it takes: {', '.join(known) or 'none'}"
                )
            if str(value).lower() in ("true", "false") and not isinstance(value, bool):
                raise ModelError(
                    f"{self._origin}: model.chat_template_kwargs.{name} is the text {value!r}, which a chat template "
                    f"takes for true; write {str(value).lower()} without quotes"
                )

    def _examined(self) -> TemplateFacts:
        try:
            return examine(self._apply, self._tokenizer)
        except Exception as error:  # see `render`
            raise ModelError(self._no_question(error)) from None

    def _no_question(self, error: Exception) -> str:
        """What to say of a template that takes not even a question alone, so that no system prompt is at fault."""
        unset = sorted(self._switches() - self.arguments.keys())
        missing = next((name for name in unset if re.search(rf"\b{re.escape(name)}\b", str(error))), None)
        remedy = f"set that variable: --set 'model.chat_template_kwargs.{missing}=\"...\"', or " if missing else ""
        return f"{self._origin}: its chat template refuses a question alone ({error}); {remedy}{_FIX}"

    def _refusal(self, error: Exception) -> str:
        return (
            f"{self._origin}: its chat template refuses our messages ({error}); if it has no system role, use none: "
            f"--set 'rollout.system_prompt=\"\"'"
        )

    def _require_fit(self, num_rows: int) -> None:
        facts, encode = self.facts, self._tokenizer.convert_ids_to_tokens
        ids = self._tokenizer(facts.sample, add_special_tokens=False)["input_ids"]
        unknown = next((token for token in ids if token >= num_rows), None)
        for is_wrong, complaint in (
            (not facts.takes_question, "its chat template drops the user message or changes its text; fix the "
             "template"),
            (not facts.is_steady, "its chat template writes something else each time it is applied to the same "
             "messages; fix the template"),
            (facts.missing_header is not None, f"its chat template ignores add_generation_prompt: a reply would have "
             f"to begin with {facts.missing_header!r} itself; end the template with {{% if add_generation_prompt %}}"
             f"{{{{ {facts.missing_header!r} }}}}{{% endif %}}"),
            (unknown is not None, f"its chat template writes {unknown is not None and encode(unknown)!r}, token "
             f"{unknown}, and the model knows {num_rows} tokens only; take the tokenizer that belongs to the model"),
            (facts.prefill, f"its chat template begins each reply with {facts.prefill!r}, which is no part of what the "
             f"model writes, so no reply would have the form that is asked for; take it out of the template's "
             f"add_generation_prompt part"),
        ):  # fmt: skip
            if is_wrong:
                raise ModelError(f"{self._origin}: {complaint}")


def _folded(conversation: Conversation) -> Conversation:
    """The conversation with its system messages at the beginning of the first other one."""
    system = [message["content"] for message in conversation if message["role"] == "system"]
    others = [message for message in conversation if message["role"] != "system"]
    if not system:
        return conversation
    first = others[0]["content"] if others else ""
    return [{"role": "user", "content": "\n\n".join(filter(None, [*system, first]))}, *others[1:]]
