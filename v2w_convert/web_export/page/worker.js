// The model runs here, so that the page answers while a frame is computed.

import { open, readWorld } from "./files.js";
import { gaussian } from "./noise.js";
import { Stream } from "./stream.js";

let world, sessions, stream;
let action, steps;
let interval = 0; // milliseconds between frames; 0: as fast as it goes
let playing = false, running = false;
let turn = Promise.resolve();
let shown = Promise.resolve(); // the picture that is being decoded
/** Starts and frames come one after another. */
const next = (job) => (turn = turn.catch(() => {}).then(job));

const channel = new MessageChannel();
/** Let messages in. */
const breathe = () => new Promise((done) => {
  channel.port1.onmessage = done;
  channel.port2.postMessage(0);
});
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function rgba(picture) {
  const pixels = new Uint8ClampedArray((picture.length / 3) * 4);
  const size = picture.length / 3;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = 255 * picture[c * size + i]; // rounded, and ties to even
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}

async function show(kind, frame, more) {
  const pixels = rgba(await stream.picture(frame));
  postMessage({ kind, pixels, ...more }, [pixels.buffer]);
}

async function play() {
  if (running) return;
  running = true;
  while (playing) {
    const began = performance.now();
    await next(async () => {
      if (!playing) return;
      const frame = await stream.step(action, steps);
      await shown; // one picture at a time; while it is decoded, the next frame is computed
      shown = show("frame", frame, { ms: performance.now() - began });
      shown.catch(() => {}); // told when it is waited for
    });
    const left = interval - (performance.now() - began);
    await (left > 1 ? sleep(left) : breathe());
  }
  running = false; // at once: who plays again while the last picture is decoded is not passed over
  await shown;
}

const handlers = {
  async open({ engine }) {
    world = await readWorld();
    action = new Float32Array(world.action_dim);
    postMessage({ kind: "world", world: { ...world, starts: world.starts.map(({ label }) => ({ label })) } });
    sessions = await open(world, engine, (bytes) => postMessage({ kind: "loading", bytes }));
    postMessage({ kind: "ready", engine });
    for (const [index, { tensors }] of world.starts.entries()) {
      stream = new Stream(world, sessions, null);
      const size = stream.size;
      await show("start", tensors.latents.data.slice(-size), { index });
    }
  },
  start({ index, seed }) {
    playing = false;
    return next(async () => {
      await shown.catch(() => {});
      stream = new Stream(world, sessions, gaussian(seed));
      await show("begun", await stream.begin(world.starts[index]), { index });
    });
  },
  action(message) { action = message.action; },
  steps(message) { steps = message.steps; },
  interval(message) { interval = message.interval; },
  play(message) {
    playing = message.playing;
    return playing ? play() : undefined;
  },
};

onmessage = async ({ data }) => {
  try {
    await handlers[data.kind](data);
  } catch (error) {
    playing = running = false;
    postMessage({ kind: "error", message: String(error?.message ?? error) });
  }
};
