// One rollout: the same loop as v2w_convert/web_export/player.py, which is compared with torch when the folder is written.

const EMPTY = { float32: Float32Array, int64: BigInt64Array };

export class Stream {
  /** `draw(count)`: normally distributed numbers, asked for in a fixed order: all of history, then of each frame two. */
  constructor(world, sessions, draw) {
    Object.assign(this, { world, sessions, draw });
    this.size = world.latent.reduce((a, b) => a * b, 1);
    this.state = {};
    for (const [name, { dtype, shape }] of Object.entries(world.state)) {
      const size = shape.reduce((a, b) => a * b, 1);
      this.state[name] = this.tensor(dtype, new EMPTY[dtype](size), shape);
    }
    this.conditions = {};
  }

  /** Observe the first frames of a start. */
  async begin(start) {
    const { latents, actions, ...conditions } = start.tensors;
    for (const [name, { dtype, data, shape }] of Object.entries(conditions)) {
      this.conditions[name] = this.tensor(dtype, data, shape);
    }
    const noise = this.draw(latents.data.length);
    const a = this.world.action_dim;
    for (let t = 0; t < latents.shape[0]; t++) {
      const [from, to] = [t * this.size, (t + 1) * this.size];
      const action = actions.data.slice(t * a, (t + 1) * a);
      await this.commit(latents.data.subarray(from, to), action, noise.subarray(from, to));
    }
    return latents.data.slice(-this.size);
  }

  /** The next frame's latents after an action (Float32Array), in so many denoising steps; committed. */
  async step(action, steps) {
    const { first, steps: table } = this.world.steps[steps];
    let frame = this.draw(this.size).map((x) => first * x);
    for (const [level, ofNoisy, ofOutput] of table) {
      const output = await this.guided(frame, level, action);
      frame = frame.map((x, i) => ofNoisy * x + ofOutput * output[i]);
    }
    await this.commit(frame, action, this.draw(this.size));
    return frame;
  }

  /** Latents to the pixels (3 height width) of a picture, from 0 to 1. */
  async picture(frame) {
    const latents = this.tensor("float32", frame, [1, ...this.world.latent]);
    return (await this.sessions.decode.run({ latents })).picture.data;
  }

  async commit(frame, action, noise) {
    const { clean, noise: random, level } = this.world.history;
    const noisy = Float32Array.from(frame, (x, i) => clean * x + random * noise[i]);
    const { feedback } = this.world;
    const outputs = await this.run(Object.values(feedback), noisy, level, action, false);
    for (const [input, output] of Object.entries(feedback)) this.state[input] = outputs[output];
  }

  async guided(frame, level, action) {
    const { output } = await this.run(["output"], frame, level, action, false);
    const { guidance } = this.world;
    if (guidance === 1) return output.data;
    const without = (await this.run(["output"], frame, level, action, true)).output.data;
    return output.data.map((x, i) => without[i] + guidance * (x - without[i]));
  }

  run(names, frame, level, action, dropped) {
    const feeds = {
      latents: this.tensor("float32", frame, [1, 1, ...this.world.latent]),
      noise_level: this.tensor("float32", Float32Array.of(level), [1, 1]),
      actions: this.tensor("float32", action, [1, 1, this.world.action_dim]),
      dropped: this.tensor("bool", Uint8Array.of(dropped), [1, 1]),
      ...this.state,
      ...this.conditions,
    };
    return this.sessions.step.run(feeds, names);
  }

  tensor(dtype, data, shape) {
    return new this.sessions.ort.Tensor(dtype, data, shape);
  }
}
