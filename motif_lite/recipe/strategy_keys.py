"""Which keys of ``rollout`` a strategy makes prompts by, beside the limits and ``system_prompt``, which all read."""

_READ_BY = {
    "single_round": set[str](),
    "multi_round": {"num_rounds", "final_instruction", "early_finish"},
    "delethink": {"num_rounds", "head_tokens", "tail_tokens"},
    "refine": {"num_rounds"},
    "parallel": {"num_rounds"},
}


def keys_of(strategy: str) -> set[str]:
    """Of a strategy; others than these, such as one of the user's own, may read all."""
    return _READ_BY.get(strategy, set().union(*_READ_BY.values()))
