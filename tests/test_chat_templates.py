"""Chat templates that a run would be trained through without a word: each is handled and said, or refused."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import decoders
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from motif_lite.errors import ModelError
from motif_lite.nouns import Conversation
from motif_lite.policies.chat_template import ChatTemplate
from motif_lite.policies.template_checks import TurnEnd, is_thinking
from motif_lite.policies.turn_ends import TurnEnds
from tests.chats import ASKS, CHATML, CHATML_MARKS, TURNS, chat_tokenizer

ASKED: Conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]


def tokenizer(template: str, marks: list[str] | None = None, **names: str) -> PreTrainedTokenizerFast:
    return chat_tokenizer(marks or CHATML_MARKS, template, names=names)


def examined(template: str, marks: list[str] | None = None, day: str = "auto", **arguments: object) -> ChatTemplate:
    made = tokenizer(template, marks)
    return ChatTemplate(made, "folder", len(made), arguments, day)


def model_with(made: PreTrainedTokenizerFast, end: int) -> Any:
    """As much of a model as tells where replies end."""
    return SimpleNamespace(name_or_path="folder", generation_config=SimpleNamespace(eos_token_id=end))


def refusal(template: str, marks: list[str] | None = None, **arguments: Any) -> str:
    with pytest.raises(ModelError) as caught:
        examined(template, marks, **arguments)
    told = str(caught.value)
    assert told.startswith("folder: ")
    assert "\n" not in told
    return told


# ------------------------------------------------------------------------------------------------ the system prompt

USERS_ONLY = "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] + '\n' + m['content'] }}<|im_end|>\n{% endfor %}"  # noqa: E501
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
ESCAPES = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] | e if m['role'] == 'system' else m['content'] }}<|im_end|>\n{% endfor %}" + ASKS
)
FIRST_LINE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('\n')[0] if m['role'] == 'system' else m['content'] }}<|im_end|>\n{% endfor %}" + ASKS
)


@pytest.mark.parametrize(
    "template", [USERS_ONLY + ASKS, REFUSES, ESCAPES, FIRST_LINE], ids=["drops", "refuses", "escapes", "cuts"]
)
def test_a_system_prompt_that_would_not_arrive_begins_the_users_message(template: str) -> None:
    found = examined(template)
    assert found.folds_system
    assert found.render(ASKED) == "<|im_start|>user\nBe brief.\n\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    assert "no system role" in found.remarks()[0]


def test_what_trl_renders_is_what_we_render() -> None:
    """TRL samples openings itself: from the messages that `plain` gives, with the template's own arguments."""
    made = tokenizer("{{ strftime_now('%Y') }}" + USERS_ONLY + ASKS)
    found = ChatTemplate(made, "folder", len(made), {}, "2024-05-06")
    by_trl = made.apply_chat_template(found.plain(ASKED), tokenize=False, add_generation_prompt=True, **found.arguments)
    assert by_trl == found.render(ASKED)
    assert by_trl.startswith("2024")


def test_a_system_prompt_that_arrives_is_left_where_it_is() -> None:
    found = examined(CHATML)
    assert not found.folds_system
    assert found.remarks() == []
    assert found.render(ASKED).startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_a_template_that_folds_it_itself_is_left_alone() -> None:
    gemma = (
        "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
        "{{ first if loop.first }}{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )
    found = examined(gemma, ["<start_of_turn>", "<end_of_turn>", "<eos>"])
    assert not found.folds_system
    assert found.render(ASKED) == "<start_of_turn>user\nBe brief.\n\n1 + 1?<end_of_turn>\n<start_of_turn>model\n"


def test_a_template_that_needs_a_system_prompt_is_taken() -> None:
    demanding = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('say who I am') }}{% endif %}" + CHATML
    assert not examined(demanding).folds_system


@pytest.mark.parametrize(
    ("template", "own"),
    [
        (CHATML, ""),
        (
            "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe Bo.<|im_end|>\n{% endif %}" + CHATML,
            "Be Bo.",
        ),
        ("{% if messages[0]['role'] != 'system' %}{{ raise_exception('who am I?') }}{% endif %}" + CHATML, ""),
        (USERS_ONLY + ASKS, ""),
    ],
    ids=["none", "one", "demands one", "no role"],
)
def test_a_system_prompt_of_the_templates_own_is_found(template: str, own: str) -> None:
    assert examined(template).facts.own_system == own


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (USERS_ONLY.replace("!=", "==") + ASKS, "drops the user message"),
        (TURNS.replace("m['content']", "m['content'] | upper") + ASKS, "drops the user message or changes its text"),
        (TURNS.replace("m['content']", "m['content'].replace('\\n', ' ')") + ASKS, "changes its text"),
        ("{{ ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] | random }}" + CHATML, "writes something else each time"),
        ("{% for %}", "is no template"),
    ],
)
def test_a_template_that_changes_messages_is_refused(template: str, reason: str) -> None:
    assert reason in refusal(template)


# ------------------------------------------------------------------------------------------------ asking for a reply


@pytest.mark.parametrize("template", [TURNS, TURNS + "{{ '<|endoftext|>' }}"], ids=["nothing", "an end of text"])
def test_a_template_that_never_asks_is_refused_with_the_remedy(template: str) -> None:
    told = refusal(template)
    assert "ignores add_generation_prompt" in told
    assert "{% if add_generation_prompt %}" in told


MISTRAL = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}</s>"
    "{% elif m['role'] == 'user' %}[INST] {{ messages[0]['content'] + '\n' if messages[0]['role'] == 'system' }}"
    "{{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
ALWAYS = TURNS + "{{ '<|im_start|>assistant\n' }}"
CHANNELS = (  # as gpt-oss: the model itself chooses where it writes
    "{% for m in messages %}<|start|>{{ m['role'] }}{{ '<|channel|>final' if m['role'] == 'assistant' }}<|message|>"
    "{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        (MISTRAL, ["</s>", "[INST]", "[/INST]"]),
        (ALWAYS, None),
        (CHANNELS, ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"]),
    ],
    ids=["nothing to ask with", "always asks", "leaves a part to the model"],
)
def test_templates_that_ask_in_their_own_way_are_taken(template: str, marks: list[str] | None) -> None:
    assert examined(template, marks).facts.missing_header is None


# ---------------------------------------------------------------------------------------------------- the turn's end


LLAMA3 = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
ENDS_WITH_THE_NEXT = (  # a turn ends only where another message follows
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' + m['content'] }}"
    "{% if not loop.last %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}"  # noqa: E501
)
TWICE = TURNS.replace("<|im_end|>\\n", "<|im_end|><|endoftext|>\\n") + ASKS
NEXT_ROLE = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"  # noqa: E501


@pytest.mark.parametrize(
    ("template", "marks", "end"),
    [
        (CHATML, CHATML_MARKS, "<|im_end|>"),
        (LLAMA3, ["<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
        (ENDS_WITH_THE_NEXT, CHATML_MARKS, "<|im_end|>"),
        (TWICE, CHATML_MARKS, "<|im_end|>"),
        (MISTRAL, ["</s>", "[INST]", "[/INST]"], "</s>"),
        (NEXT_ROLE, ["<|system|>", "<|user|>", "<|assistant|>", "\n"], "<|user|>"),
    ],
)
def test_the_token_after_a_reply_ends_it(template: str, marks: list[str], end: str) -> None:
    made = tokenizer(template, marks)
    found = ChatTemplate(made, "folder", len(made))
    assert found.facts.turn_end == TurnEnd((made.convert_tokens_to_ids(end),))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{% for m in messages %}{{ m['role'] | title }}: {{ m['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}Assistant: {% endif %}",
            "\nUser:",
        ),
        (CHATML, "<|im_end|>"),
    ],
)
def test_where_it_is_no_token_the_text_does(template: str, text: str) -> None:
    assert examined(template, ["<s>"]).facts.turn_end == TurnEnd((), text)


# ----------------------------------------------------------------------------------------------- thinking, and the day


def test_a_think_block_that_the_prompt_opens_is_told() -> None:
    found = examined(TURNS + ASKS.replace("assistant\\n", "assistant\\n<think>\\n"))
    assert found.facts.opens_think
    assert "opens a think block" in " ".join(found.remarks())


@pytest.mark.parametrize("begun", ["<start_working_out>", "<reasoning>\\n", "<|channel|>analysis<|message|>", "Sure, "])
def test_a_template_that_begins_each_reply_is_refused(begun: str) -> None:
    told = refusal(TURNS + ASKS.replace("assistant\\n", f"assistant\\n{begun}"))
    assert f"begins each reply with {begun.strip().removesuffix(chr(92) + 'n')!r}" in told


@pytest.mark.parametrize("header", ["assistant:", "assistant: ", "assistant:\\n"])
def test_white_space_behind_a_header_begins_no_reply(header: str) -> None:
    turns = TURNS.replace("'<|im_start|>' + m['role'] + '\\n'", "m['role'] + ': '")
    assert turns != TURNS
    assert examined(turns + ASKS.replace("<|im_start|>assistant\\n", header)).facts.prefill == ""


@pytest.mark.parametrize(
    "content",
    ["m['content'][:2000]", "m['content'].split('</think>')[-1]", "m['content'].split('<answer>')[0]"],
    ids=["cut at a length", "cut behind a think block", "cut before a tag"],
)
def test_a_template_that_cuts_what_it_is_given_is_refused(content: str) -> None:
    assert "drops the user message or changes its text" in refusal(TURNS.replace("m['content']", content) + ASKS)


def test_tags_that_are_special_tokens_stay_in_prompts_and_in_replies() -> None:
    made = tokenizer(CHATML, [*CHATML_MARKS, "<answer>", "</answer>"])
    found = ChatTemplate(made, "folder", len(made))
    rendered = found.render([{"role": "user", "content": "Write <answer>, not <|im_end|>."}])
    assert "Write <answer>, not < |im_end|>." in rendered
    ends = TurnEnds(model_with(made, 258), made, found.facts.turn_end)
    ids = made("<answer>\n5\n</answer><|im_end|>")["input_ids"]
    assert made.decode(ends.readable(ids), skip_special_tokens=not ends.kept) == "<answer>\n5\n</answer>"


def test_a_tokenizer_that_does_not_give_back_what_it_was_given_is_told() -> None:
    made = tokenizer(CHATML)
    assert TurnEnds(model_with(made, 258), made, TurnEnd()).remarks("folder") == []
    made.backend_tokenizer.decoder = decoders.Fuse()
    [told] = TurnEnds(model_with(made, 258), made, TurnEnd()).remarks("folder")
    assert "folder: its tokenizer does not give back" in told


@pytest.mark.parametrize("text", ["False", "true"])
def test_a_switch_that_is_a_text_is_refused(text: str) -> None:
    told = refusal(SWITCHES, enable_thinking=text)
    assert f"enable_thinking is the text {text!r}" in told
    assert f"write {text.lower()} without quotes" in told


SWITCHES = (
    TURNS
    + ASKS
    + (
        "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"  # noqa: E501
    )
)


def test_thinking_is_switched_off_by_the_recipe() -> None:
    assert "chat_template_kwargs.enable_thinking=false" in examined(SWITCHES).remarks()[0]
    off = examined(SWITCHES, enable_thinking=False)
    assert off.render(ASKED).endswith("assistant\n<think>\n\n</think>\n\n")
    assert off.remarks() == []
    assert not off.facts.opens_think


def test_a_variable_that_the_template_does_not_use_is_refused_with_those_it_does() -> None:
    told = refusal(SWITCHES, enable_thinkin=False)
    assert "does not use 'enable_thinkin' (did you mean 'enable_thinking'?); it takes: enable_thinking" in told
    assert refusal(CHATML, enable_thinking=False).endswith("it takes: none")


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ("{{ 'Reasoning: ' + reasoning_effort }}" + CHATML, "--set 'model.chat_template_kwargs.reasoning_effort="),
        ("{{ raise_exception('give mode') if not mode }}" + CHATML, "--set 'model.chat_template_kwargs.mode="),
        ("{{ 1 / 0 }}" + CHATML, "fix the template"),
        (CHATML + "{% if %}", "fix the template"),
    ],
)
def test_a_template_that_takes_not_even_a_question_is_not_helped_by_leaving_the_system_prompt_out(
    template: str, remedy: str
) -> None:
    told = refusal(template)
    assert remedy in told
    assert "rollout.system_prompt" not in told
    assert ("--set" in told) == ("--set" in remedy)


def test_templates_of_which_none_is_the_default_are_named() -> None:
    made = tokenizer(CHATML)
    made.chat_template = {"tool_use": CHATML, "rag": CHATML}
    with pytest.raises(ModelError, match=r"folder: its chat templates have names \(rag, tool_use\)") as caught:
        ChatTemplate(made, "folder", len(made))
    assert "save the one to use as chat_template.jinja" in str(caught.value)
    made.chat_template = {"tool_use": "{{ 1 / 0 }}", "default": CHATML}
    assert "1 + 1?<|im_end|>" in ChatTemplate(made, "folder", len(made)).render(ASKED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\n", True),
        ("<think>\n\n</think>\n\n", False),
        ("assistant\n", False),
        ("[THINK]", True),
        ("</think>", False),
    ],
)
def test_whether_a_text_ends_inside_a_think_block(text: str, expected: bool) -> None:
    assert is_thinking(text) is expected


LLAMA31 = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y %H:%M:%S') %}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\n' }}" + CHATML
)


def test_a_template_writes_the_day_that_it_is_given() -> None:
    found = examined(LLAMA31, day="2024-07-26")
    assert found.render(ASKED).startswith("Today Date: 26 Jul 2024 00:00:00\n")
    assert "writes the date; this run keeps 2024-07-26" in found.remarks()[0]
    assert examined(LLAMA31).render(ASKED) == examined(LLAMA31).render(ASKED), "the clock plays no part"
    assert examined(LLAMA31, date_string="today").render(ASKED).startswith("Today Date: today")


def test_a_token_that_the_model_does_not_know_is_refused_and_in_a_message_it_is_text() -> None:
    made = tokenizer(CHATML, [*CHATML_MARKS, "<|extra|>"])
    known = made.convert_tokens_to_ids("<|extra|>")
    found = ChatTemplate(made, "folder", known)
    rendered = found.render([{"role": "user", "content": "<|extra|>"}])
    assert max(made(rendered, add_special_tokens=False)["input_ids"]) < known
    made.chat_template = CHATML.replace("assistant\\n", "assistant\\n<|extra|>")
    with pytest.raises(ModelError, match=rf"writes '<\|extra\|>', token {known}, and the model knows {known} tokens"):
        ChatTemplate(made, "folder", known)


# ------------------------------------------------------------------------------------------------ a real tokenizer


@pytest.mark.parametrize(
    "template", [None, TURNS, USERS_ONLY + ASKS, TURNS + ASKS.replace("assistant\\n", "assistant\\n<think>\\n")]
)
def test_of_a_real_chat_model(smollm2: Path, tmp_path: Path, template: str | None) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(smollm2 / name, tmp_path)
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)
    made = AutoTokenizer.from_pretrained(tmp_path)
    if template == TURNS:
        with pytest.raises(ModelError, match="ignores add_generation_prompt"):
            ChatTemplate(made, "folder", len(made))
        return
    found = ChatTemplate(made, "folder", len(made))
    assert found.facts.turn_end == TurnEnd((made.convert_tokens_to_ids("<|im_end|>"),))
    assert found.folds_system == (template == USERS_ONLY + ASKS)
    assert found.facts.opens_think == (template is not None and "<think>" in template)
