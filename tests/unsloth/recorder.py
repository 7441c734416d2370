"""Notes who is called, and calls them: what the log of `make test-unsloth` names is what has really run."""

import functools
import inspect
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Recorder:
    """The calls of real functions, by module and name."""

    calls: Counter[str] = field(default_factory=Counter)
    arguments: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = field(default_factory=dict)

    def watch(self, owner: Any, *names: str) -> None:
        """Note the calls of functions of a class or module from now on."""
        for name in names:
            static = isinstance(inspect.getattr_static(owner, name), staticmethod)
            recorded = self._recorded(getattr(owner, name), name)
            setattr(owner, name, staticmethod(recorded) if static else recorded)

    def _recorded(self, function: Any, name: str) -> Any:
        label = f"{function.__module__}: {name}"
        self.calls[label] = 0

        @functools.wraps(function)
        def recorded(*arguments: Any, **named: Any) -> Any:
            self.calls[label] += 1
            self.arguments.setdefault(name, []).append((arguments, named))
            return function(*arguments, **named)

        return recorded
