"""Several processes of one run on one machine, and what they tell each other.

Every process has the whole model. In a training step each one rolls out and grades its own problems and propagates its
own rows back; then all have all rollouts and the sum of all gradients, so that all make the same update. Process 0, the
*main* one, runs the program and writes its files; the others, *helpers*, do what it needs.

The launcher says by torchrun's variables which process this is. They are taken out of the environment here: TRL,
transformers and Accelerate see one process with a whole step. Their own way counts on each process to call the same
collective operations inside the loss, which one that ran out of memory and repeats its rows in smaller pieces does not.

Messages are JSON, over gloo, also between GPUs: gradients of an adapter are small beside a step, and gloo tells at once
that a process has ended, where NCCL waits.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import TypeAdapter

from motif_lite import errors
from motif_lite.errors import MotifError, RecipeError, RunError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_MEETING = timedelta(minutes=10)
"""For all processes to have started: one may still import its libraries on a busy machine."""

_NEVER = timedelta(days=1000)
"""Others may measure, save or wait for a disk for hours; that a process has ended is told at once."""

_OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE")

LAUNCHER = "MOTIF_LITE_LAUNCHER"
"""The number of the process that `launching` works in; other launchers are their processes' parents."""


class Followed(MotifError):
    """This helper ends because the run does; the main process or the launcher says why."""


class PeerEnded(MotifError):
    """Another process of the run has ended, and did not say why."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of several processes this is. One alone needs no group: everything below is then what it would do anyway.

    Attributes:
        number: From 0.
        count: Of all.
        group: torch's; None until `joined`, and where there is one process.
    """

    number: int = 0
    count: int = 1
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process runs the program and writes its files."""
        return self.number == 0

    def joined(self) -> Self:
        """With all others, once they are there; call it once, before anything is written.

        Raises:
            RunError: They do not come.
        """
        if self.count == 1:
            return self
        from torch.distributed import ProcessGroupGloo
        from torch.distributed.distributed_c10d import PrefixStore

        try:
            group = ProcessGroupGloo(PrefixStore("motif_lite", self._store()), self.number, self.count, _NEVER)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise RunError(f"the {self.count} processes of the run do not find each other ({reason})") from None
        launcher = int(os.environ.get(LAUNCHER, os.getppid()))
        for name in [*_OF_LAUNCHERS, LAUNCHER, *(key for key in os.environ if key.startswith("ACCELERATE_"))]:
            os.environ.pop(name, None)
        if self.is_main:
            threading.Thread(target=_stop_without, args=(launcher,), name="launcher", daemon=True).start()
        return type(self)(self.number, self.count, group)

    def share(self, num: int) -> slice:
        """This process's part of so many things in order, of almost equal sizes."""
        return slice(num * self.number // self.count, num * (self.number + 1) // self.count)

    def gather(self, kind: Any, make: Callable[[], T]) -> list[T]:
        """What each process makes, on all of them, by its number.

        Args:
            kind: The type of what is made, for pydantic.
            make: Called here. If it fails in any process, all of them raise.

        Raises:
            MotifError: Of the first process that failed.
            Followed: The same, on a helper.
        """
        if self.count == 1:
            return [make()]
        made, failure = None, None
        try:
            made = TypeAdapter(kind).dump_python(make())
        except Exception as error:
            failure = error
        told = None if failure is None else _told(failure, self)
        heard = [json.loads(text) for text in self._gathered(json.dumps([made, told]).encode())]
        failed = next((told for _, told in heard if told), None)
        if failed is not None:
            self._raise(failure, *failed)
        return [TypeAdapter(kind).validate_python(made) for made, _ in heard]

    def together(self, make: Callable[[], T]) -> T:
        """What this process makes, once all have made theirs; see `gather`."""
        made: list[T] = []
        self.gather(None, lambda: made.append(make()))
        return made[0]

    def from_main(self, kind: Any, value: T | None = None) -> T:
        """What the main process has, on all of them."""
        if self.count == 1:
            return value  # type: ignore[return-value]
        import torch

        text = json.dumps(TypeAdapter(kind).dump_python(value)).encode() if self.is_main else b""
        length = torch.tensor([len(text)])
        self._wait(self.group.broadcast(length, 0))
        content = torch.frombuffer(bytearray(text or int(length)), dtype=torch.uint8)
        self._wait(self.group.broadcast(content, 0))
        found: T = TypeAdapter(kind).validate_python(json.loads(content.numpy().tobytes()))
        return found

    def add_up(self, tensors: Sequence["torch.Tensor"]) -> None:
        """Replace each by its sum over all processes, the same to the last bit on each."""
        if self.count == 1 or not tensors:
            return
        import torch

        flat = torch.cat([tensor.detach().reshape(-1).float().cpu() for tensor in tensors])
        self._wait(self.group.allreduce([flat]))
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def _store(self) -> Any:
        """What they meet at. Under our launcher other machines do not reach it; torch's listens on all addresses."""
        from torch.distributed import TCPStore  # type: ignore[attr-defined]
        from torch.distributed.rendezvous import rendezvous

        if LAUNCHER not in os.environ or not self.is_main:
            return next(rendezvous("env://", timeout=_MEETING))[0]
        address = ("127.0.0.1", int(os.environ["MASTER_PORT"]))
        listening = socket.create_server(address).detach()
        return TCPStore(*address, self.count, is_master=True, timeout=_MEETING, master_listen_fd=listening)

    def _gathered(self, text: bytes) -> list[bytes]:
        import torch

        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.count)]
        self._wait(self.group.allgather([lengths], [torch.tensor([len(text)])]))
        longest = int(max(lengths))
        contents = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
        padded = torch.frombuffer(bytearray(text.ljust(longest)), dtype=torch.uint8)
        self._wait(self.group.allgather([contents], [padded]))
        return [content.numpy().tobytes()[: int(length)] for content, length in zip(contents, lengths, strict=True)]

    def _wait(self, work: Any) -> None:
        try:
            work.wait()
        except RuntimeError as error:
            raise (PeerEnded if self.is_main else Followed)(str(error).partition("\n")[0]) from None

    def _raise(self, own: Exception | None, kind: str, text: str) -> None:
        """What a process that failed has told."""
        if self.is_main:
            raise own or getattr(errors, kind)(text)
        if own is not None and not isinstance(own, MotifError):
            traceback.print_exception(own)  # a fault of the program's own
        raise Followed(text) from None


ALONE = Ranks()


def of_environment(environment: MutableMapping[str, str]) -> Ranks:
    """Which process this is, as torchrun's variables say it; they are taken out where it is alone.

    Raises:
        RecipeError: They are no numbers or do not fit, or the others are on other machines.
    """
    count = _number(environment, "WORLD_SIZE") or 1
    if count == 1:
        for name in _OF_LAUNCHERS:
            environment.pop(name, None)
        return ALONE
    if _number(environment, "LOCAL_WORLD_SIZE") != count:
        raise RecipeError(
            f"WORLD_SIZE = {count} processes, and LOCAL_WORLD_SIZE does not say that all are on this machine, where "
            f"the processes of a run are to be: start them here with --processes {count}, or unset WORLD_SIZE"
        )
    number = _number(environment, "RANK")
    if number is None or number >= count:
        raise RecipeError(
            f"RANK = {environment.get('RANK', '')!r} is none of the {count} processes that WORLD_SIZE tells of, which "
            f"count from 0; unset both, or correct what sets them"
        )
    return Ranks(number, count)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """What a variable says; None where it is not set, or empty."""
    text = environment.get(name, "").strip()
    if text and not (text.isascii() and text.isdecimal()):
        raise RecipeError(f"{name} = {text!r} in the environment is no number of processes; unset it, or correct it")
    return int(text) if text else None


def _told(error: Exception, ranks: Ranks) -> tuple[str, str]:
    """The class and the message of what goes wrong in one process, for the others."""
    where = f"process {ranks.number + 1} of {ranks.count}"
    if isinstance(error, MotifError):
        kind = type(error).__name__
        return (kind if hasattr(errors, kind) else "RunError"), f"in {where}: {error}"
    return "RunError", f"in {where}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _stop_without(launcher: int) -> None:
    """Ask this process to stop, as SIGTERM does, once its launcher is gone, as it may be from the first."""
    parent = os.getppid()
    while os.getppid() == parent and _is_there(launcher):
        time.sleep(1)
    if not sys.is_finalizing():
        os.kill(os.getpid(), signal.SIGTERM)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, as the parent of a job may be
        return True
    return True
