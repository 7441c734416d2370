"""Has llama.cpp continue a text, in a process of its own: it logs to the terminal, and ends the process it fails in.

`python llama_cpp.py` reads {"model", "prompt", "tokens"} as JSON and prints what `/v1/completions` answers, greedily.
"""

import json
import sys
from typing import Any


def main() -> None:
    """Answer one request."""
    import xllamacpp

    asked = json.load(sys.stdin)
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_parallel = asked["model"], 1
    parameters.n_ctx = 512 + 2 * len(asked["prompt"].encode())
    server = xllamacpp.Server(parameters)
    answer = server.handle_completions({
        "prompt": asked["prompt"], "max_tokens": asked["tokens"], "temperature": 0, "logprobs": 1,
    })  # fmt: skip
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
