// Normally distributed numbers from a seed: xoshiro128** (Blackman and Vigna, 2018, prng.di.unimi.it), its state filled by
// splitmix32, and Box and Muller's transform in double precision. The same seed gives the same rollout in every browser;
// it is not torch's sequence.

const rotate = (x, k) => (x << k) | (x >>> (32 - k));

/** A function that returns the next `count` numbers, as Float32Array. */
export function gaussian(seed) {
  let mixed = seed >>> 0;
  const state = Array.from({ length: 4 }, () => {
    mixed = (mixed + 0x9e3779b9) | 0;
    let z = mixed;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return z ^ (z >>> 15);
  });
  function uniform() { // in (0, 1)
    const found = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
    const t = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= t;
    state[3] = rotate(state[3], 11);
    return (found + 0.5) / 2 ** 32;
  }
  return (count) => {
    const made = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(uniform()));
      const angle = 2 * Math.PI * uniform();
      made[i] = radius * Math.cos(angle);
      if (i + 1 < count) made[i + 1] = radius * Math.sin(angle);
    }
    return made;
  };
}
