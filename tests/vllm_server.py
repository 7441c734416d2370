"""Speaks the part of vLLM's API that rollouts need, with a real model and its adapters behind it."""

import threading
from pathlib import Path
from typing import Any

from motif_lite.jobs import checking
from motif_lite.nouns import Sampling
from motif_lite.policies.engine.sampler import Request
from motif_lite.policies.transformers_policy import TransformersPolicy
from motif_lite.recipe.keys import changed
from tests.api_server import ApiServer, Body, Exchange

TINY = Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml"


def tiny_policy(folder: Path, *changes: str) -> TransformersPolicy:
    """The model in a folder with a fresh adapter, as tiny_cpu.toml has it loaded."""
    recipe = changed(checking.check(TINY, [f'model.name="{folder}"', *changes]), {"rollout.max_width": 8})
    return TransformersPolicy.load(recipe, str(folder))


class VllmServer:
    """Serves a model and the adapters that it is told to load; its `api` is a context.

    Args:
        takes_adapters: Else it answers by the base model, whatever it was told.
        dies_after: So many completions.
    """

    def __init__(self, folder: Path, *, takes_adapters: bool = True, dies_after: int | None = None) -> None:
        self.policy = tiny_policy(folder)
        self.adapters: dict[str, Path] = {}
        self.orders: list[str] = []
        self.num_written = 0
        self._takes_adapters, self._dies_after = takes_adapters, dies_after
        self._loaded: str | None = None
        self._lock = threading.Lock()
        self.api = ApiServer(self._respond, self.adapters)

    def _respond(self, exchange: Exchange) -> None:
        with self._lock:
            if self._dies_after is not None and self.num_written >= self._dies_after:
                exchange.handler.close_connection = True
                return
            answer = {
                "/v1/load_lora_adapter": self._load, "/v1/unload_lora_adapter": self._unload,
                "/v1/completions": self._complete,
            }[exchange.handler.path]  # fmt: skip
            answer(exchange, exchange.body)

    def _load(self, exchange: Exchange, body: Body) -> None:
        name, path = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters or not (path / "adapter_config.json").exists():
            exchange.send({"error": {"message": f"cannot load {name}"}}, 400)
            return
        self.adapters[name] = path
        self.orders.append("load")
        exchange.send(b"Success: LoRA adapter added successfully.")

    def _unload(self, exchange: Exchange, body: Body) -> None:
        if body["lora_name"] not in self.adapters:
            exchange.send({"error": {"message": f"The lora adapter '{body['lora_name']}' cannot be found."}}, 404)
            return
        del self.adapters[body["lora_name"]]
        self.orders.append("unload")
        exchange.send(b"Success: LoRA adapter removed successfully.")

    def _complete(self, exchange: Exchange, body: dict[str, Any]) -> None:
        name = body["model"]
        if name not in self.adapters:
            exchange.send({"error": {"message": f"The model `{name}` does not exist."}}, 404)
            return
        if name != self._loaded and self._takes_adapters:
            self.policy.load_adapter(self.adapters[name])
        self._loaded = name
        assert body["return_token_ids"]
        assert (body["repetition_penalty"], body["logprobs"]) == (1.0, 0)
        sampling = Sampling(
            max_tokens=body["max_tokens"], temperature=body["temperature"], top_p=body["top_p"],
            top_k=max(0, body["top_k"]), min_p=body["min_p"], stop=body["stop"],
        )  # fmt: skip
        [written] = self.policy._write([Request(0, body["prompt"], body["seed"])], sampling)
        self.num_written += 1
        exchange.send({"choices": [{
            "index": 0, "text": "", "finish_reason": written.finish, "token_ids": written.ids,
            "logprobs": {"token_logprobs": written.logprobs},
        }]})  # fmt: skip
