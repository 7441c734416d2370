"""The part of `nucleus` that is in Triton's language; annotations would be taken for a part of it."""

import triton
import triton.language as tl

_BITS_OF_ONE = tl.constexpr(0x3F800000)


@triton.jit  # type: ignore[untyped-decorator]
def least(probabilities, found, top_p, size: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of each row ``(V,)`` the largest number such that all probabilities not below it make up ``top_p``.

    Positive floating-point numbers are in the order of their bits, so the bits are halved.
    """
    row = tl.program_id(0)
    start = probabilities + row.to(tl.int64) * size
    enough = tl.zeros((), tl.int32)  # what is not below this makes up top_p
    too_few = enough + _BITS_OF_ONE + 1
    for _ in range(30):
        middle = (enough + too_few) // 2
        edge = middle.to(tl.float32, bitcast=True)
        sums = tl.zeros((block,), tl.float32)
        for offset in range(0, size, block):
            places = offset + tl.arange(0, block)
            some = tl.load(start + places, mask=places < size, other=0.0)
            sums += tl.where(some >= edge, some, 0.0)
        is_enough = tl.sum(sums, 0) >= top_p
        enough = tl.where(is_enough, middle, enough)
        too_few = tl.where(is_enough, too_few, middle)
    tl.store(found + row, enough.to(tl.float32, bitcast=True))
