"""Cards by name: memory, bandwidth and TFLOPS from NVIDIA's documents, for plans of a card that is not here.

TFLOPS are dense, 16 bits in and 32-bit sums, as training computes. The documents are in `SOURCES`. Where only units
and clock are published (product pages), TFLOPS are units x 512 operations a cycle x boost clock.
"""

import re
from dataclasses import dataclass

from motif_lite.errors import RecipeError
from motif_lite.recipe.spelling import nearest


@dataclass(frozen=True, slots=True)
class Card:
    """One kind of card.

    Attributes:
        memory_gib: What PyTorch reports, which is less than advertised.
        gigabytes_per_second: Of its memory, by the data sheet.
        tflops: By the data sheet.
        capability: CUDA's compute capability.
        source: A key of `SOURCES`.
    """

    name: str
    memory_gib: float
    gigabytes_per_second: float
    tflops: float
    capability: tuple[int, int]
    source: str


SOURCES = {
    "volta": "NVIDIA Tesla V100 data sheet",
    "t4": "NVIDIA T4 data sheet",
    "turing": "NVIDIA Turing GPU architecture white paper, appendices",
    "ampere": "NVIDIA Ampere GA102 GPU architecture white paper; GeForce RTX 3060 and 3060 Ti: units and clock",
    "ampere-pro": "NVIDIA RTX A4000, A5000, A6000 and A10 data sheets (dense: half of the sparse figure)",
    "a100": "NVIDIA A100 data sheet",
    "ada": "NVIDIA Ada GPU architecture white paper; GeForce RTX 40 but 4080 and 4090: units and clock",
    "ada-pro": "NVIDIA L4, L40S and RTX 6000 Ada data sheets (dense: half of the sparse figure)",
    "blackwell": "NVIDIA RTX Blackwell GPU architecture white paper; GeForce RTX 50 but 5080 and 5090: units and clock",
    "hopper": "NVIDIA H100 and H200 data sheets (dense: half of the sparse figure)",
}

_TURING, _AMPERE, _ADA, _BLACKWELL, _HOPPER = (7, 5), (8, 6), (8, 9), (12, 0), (9, 0)

CARDS = (
    Card("V100 16GB", 15.7, 900, 125, (7, 0), "volta"),
    Card("V100 32GB", 31.7, 900, 125, (7, 0), "volta"),
    Card("T4", 14.7, 320, 65, _TURING, "t4"),
    Card("RTX 2080 Ti", 10.7, 616, 53.8, _TURING, "turing"),
    Card("RTX 3060 12GB", 11.7, 360, 25.5, _AMPERE, "ampere"),
    Card("RTX 3060 Ti", 7.7, 448, 32.4, _AMPERE, "ampere"),
    Card("RTX 3070", 7.7, 448, 40.6, _AMPERE, "ampere"),
    Card("RTX 3080 10GB", 9.7, 760, 59.5, _AMPERE, "ampere"),
    Card("RTX 3090", 23.6, 936, 71, _AMPERE, "ampere"),
    Card("RTX A4000", 15.7, 448, 76.7, _AMPERE, "ampere-pro"),
    Card("RTX A5000", 23.6, 768, 111, _AMPERE, "ampere-pro"),
    Card("RTX A6000", 47.4, 768, 155, _AMPERE, "ampere-pro"),
    Card("A10", 22.1, 600, 125, _AMPERE, "ampere-pro"),
    Card("A100 40GB", 39.4, 1555, 312, (8, 0), "a100"),
    Card("A100 80GB", 79.2, 2039, 312, (8, 0), "a100"),
    Card("RTX 4060", 7.7, 272, 30.2, _ADA, "ada"),
    Card("RTX 4060 Ti 8GB", 7.7, 288, 44.1, _ADA, "ada"),
    Card("RTX 4060 Ti 16GB", 15.7, 288, 44.1, _ADA, "ada"),
    Card("RTX 4070", 11.7, 504, 58.3, _ADA, "ada"),
    Card("RTX 4070 Super", 11.7, 504, 71, _ADA, "ada"),
    Card("RTX 4070 Ti", 11.7, 504, 80.2, _ADA, "ada"),
    Card("RTX 4070 Ti Super", 15.7, 672, 88.2, _ADA, "ada"),
    Card("RTX 4080", 15.7, 717, 97.5, _ADA, "ada"),
    Card("RTX 4080 Super", 15.7, 736, 104, _ADA, "ada"),
    Card("RTX 4090", 23.6, 1008, 165, _ADA, "ada"),
    Card("L4", 22.1, 300, 121, _ADA, "ada-pro"),
    Card("L40S", 44.5, 864, 362, _ADA, "ada-pro"),
    Card("RTX 6000 Ada", 47.4, 960, 364, _ADA, "ada-pro"),
    Card("RTX 5060 Ti 8GB", 7.7, 448, 47.4, _BLACKWELL, "blackwell"),
    Card("RTX 5060 Ti 16GB", 15.5, 448, 47.4, _BLACKWELL, "blackwell"),
    Card("RTX 5070", 11.6, 672, 61.7, _BLACKWELL, "blackwell"),
    Card("RTX 5070 Ti", 15.5, 896, 87.9, _BLACKWELL, "blackwell"),
    Card("RTX 5080", 15.5, 960, 113, _BLACKWELL, "blackwell"),
    Card("RTX 5090", 31.3, 1792, 210, _BLACKWELL, "blackwell"),
    Card("H100", 79.1, 3350, 989, _HOPPER, "hopper"),
    Card("H200", 139.7, 4800, 989, _HOPPER, "hopper"),
)

DEFAULT = next(card for card in CARDS if card.name == "RTX 3090")
"""What is planned for where only a size is known."""

_MEMORY = re.compile(r"\b(\d+)\s*gi?b\b")

_LEFT_OUT = re.compile(r"\b(nvidia|geforce|tesla|gpu|graphics|generation|pcie|sxm\d?|hbm\d?e?)\b")


def named(name: str) -> Card:
    """The card that a person names, e.g. ``RTX 3090`` or ``NVIDIA GeForce RTX 4060 Ti 16GB``.

    Raises:
        RecipeError: It is not in the table, or there are several of that name.
    """
    found = _matching(name)
    if len(found) > 1:
        raise RecipeError(f"--gpu {name!r} comes in sizes; say which: {', '.join(card.name for card in found)}")
    if not found:
        near = nearest(name, [card.name for card in CARDS])
        raise RecipeError(
            f"--gpu {name!r} is not in the table{near}; it has {', '.join(card.name for card in CARDS)}. For another "
            f"card give its memory, e.g. --vram 24, which is planned at the speed of an {DEFAULT.name}"
        )
    return found[0]


def of_driver(name: str, memory_gib: float) -> Card | None:
    """The entry of a card that is here, by the driver's name and the size nearest to its memory; None: unknown."""
    return min(_matching(name), key=lambda card: abs(card.memory_gib - memory_gib), default=None)


def _matching(name: str) -> list[Card]:
    model, size = _key(name)
    wanted = (model, f"rtx{model}")  # people leave it out
    return [card for card in CARDS if (key := _key(card.name))[0] in wanted and (not size or key[1] in ("", size))]


def _key(name: str) -> tuple[str, str]:
    """The name without maker, punctuation and memory, and the memory where it is named."""
    small = re.sub(r"[-_/]+", " ", name.lower())
    size = _MEMORY.search(small)
    rest = _LEFT_OUT.sub(" ", _MEMORY.sub(" ", small))
    return re.sub(r"\s+", "", rest), size[1] if size else ""
