"""A server's replies of a measurement's part that is not complete: each is kept as it comes."""

from pathlib import Path
from typing import Literal

from motif_lite.nouns import Reply
from motif_lite.runs.files import append_records, as_line, each_record, write_whole
from motif_lite.runs.records import Versioned


class KeptReply(Versioned):
    """A line of the file.

    Attributes:
        request: Of what was asked, the hash.
        finish: As of `nouns.Reply`.
    """

    request: str
    text: str
    num_tokens: int
    finish: Literal["stop", "length"]


class KeptReplies:
    """What a file holds of replies; those of an earlier process are found again.

    Raises:
        RunError: The file is damaged, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = list(each_record(path, KeptReply))
        if found:
            write_whole(path, map(as_line, found))  # without a line that was cut off
        else:
            path.unlink(missing_ok=True)
        self._earlier = {each.request: Reply(each.text, each.num_tokens, each.finish) for each in found}

    def find(self, request: str) -> Reply | None:
        """What an earlier process was answered."""
        return self._earlier.get(request)

    def add(self, request: str, reply: Reply) -> None:
        """Keep a reply."""
        self._path.parent.mkdir(exist_ok=True)
        append_records(
            self._path,
            [KeptReply(request=request, text=reply.text, num_tokens=reply.num_tokens, finish=reply.finish)],
        )

    def drop(self) -> None:
        """Their part is complete and kept elsewhere."""
        self._earlier = {}
        self._path.unlink(missing_ok=True)
