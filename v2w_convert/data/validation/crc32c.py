"""CRC-32C (Castagnoli), which TFRecord files have and the standard library has not, fast enough for pictures.

Without its first and last step a CRC is linear: zeros in front do not change it, and that of A and B, one after the other, is
that of A passed through as many zeros as B has bytes, xor that of B. So many rows of the data are summed side by side, and then
put together two by two.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # with the bits turned round, as in RFC 3720
ONES = 0xFFFFFFFF
ROWS = 4096  # about as many are summed side by side
Words = NDArray[np.uint32]


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    if len(data) < 64:
        table, crc = _tables()[0], ONES
        for byte in data:
            crc = (crc >> 8) ^ int(table[(crc ^ byte) & 255])
        return crc ^ ONES
    power = max(3, (len(data) // ROWS).bit_length())
    rows = np.zeros((-(-len(data) >> power), 1 << power), np.uint8)
    rows.reshape(-1)[-len(data) :] = np.frombuffer(data, np.uint8)
    rows.reshape(-1)[-len(data) :][:4] ^= 255  # begin with ones
    words = np.ascontiguousarray(rows.view("<u4").T)
    first, second, third, last = _tables()
    states: Words = np.zeros(len(rows), np.uint32)
    for word in words:
        states ^= word
        states = (
            last[states & 255] ^ third[states >> 8 & 255] ^ second[states >> 16 & 255] ^ first[states >> 24]
        )
    while len(states) > 1:
        if len(states) % 2:
            states = np.concatenate([np.zeros(1, np.uint32), states])
        states = _through(_zeros(power), states[::2]) ^ states[1::2]
        power += 1
    return int(states[0]) ^ ONES


@cache
def _tables() -> tuple[Words, Words, Words, Words]:
    """What becomes of a byte, passed through 0, 1, 2 and 3 zeros after it."""
    state: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = (state >> np.uint32(1)) ^ (state & np.uint32(1)) * np.uint32(POLYNOMIAL)
    found = [state]
    for _ in range(3):
        found.append((found[-1] >> 8) ^ state[found[-1] & 255])
    return found[0], found[1], found[2], found[3]


@cache
def _zeros(power: int) -> Words:
    """What becomes of each bit of a state, passed through 2^power zero bytes."""
    if power == 0:
        bits: Words = np.uint32(1) << np.arange(32, dtype=np.uint32)
        after: Words = (bits >> 8) ^ _tables()[0][bits & 255]
        return after
    half = _zeros(power - 1)
    return _through(half, half)


def _through(bits: Words, states: Words) -> Words:
    """What becomes of states, by what becomes of each of their bits."""
    found = np.zeros_like(states)
    for number, bit in enumerate(bits):
        found ^= np.where(states >> np.uint32(number) & 1, bit, np.uint32(0))
    return found
