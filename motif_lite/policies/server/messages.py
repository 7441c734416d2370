"""Conversations as one text, which is what `Policy.render` gives, and back: a server applies its own chat template.

Each message is a line with its role and its length, and then its content. Lengths decide where a message ends, so no
content can begin another message.
"""

import re

from motif_lite.nouns import Conversation, Message

_HEAD = re.compile(r"(system|user|assistant) (\d{1,12})\n")

_MARK_STARTS = re.compile(
    r"<(?=[|\uff5c]|/?s>|/?(?:bos|eos|pad|unk)>|(?:start|end)_of_turn>)|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS)\])"
)
"""Where the special tokens of common chat templates begin: ChatML, Llama, Gemma, Mistral, DeepSeek. Which of them the
server's tokenizer has is not known here."""


def written(conversation: Conversation) -> str:
    """A conversation as one text, with a space inside what may be a special token of the server's tokenizer."""
    contents = [(message["role"], _MARK_STARTS.sub(r"\g<0> ", message["content"])) for message in conversation]
    return "".join(f"{role} {len(content)}\n{content}\n" for role, content in contents)


def read(text: str) -> Conversation:
    """The conversation of a text that `written` made; any other text is one message of the user."""
    found: Conversation = []
    place = 0
    while place < len(text):
        head = _HEAD.match(text, place)
        end = head.end() + int(head[2]) if head else 0
        if head is None or text[end : end + 1] != "\n":
            return [Message(role="user", content=text)]
        found.append(Message(role=head[1], content=text[head.end() : end]))  # type: ignore[typeddict-item]
        place = end + 1
    return found
