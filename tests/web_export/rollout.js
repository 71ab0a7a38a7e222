// Rolls out with the noise and the actions that the test gives, and posts the pixels.
import { open, read, readWorld } from "./files.js";
import { Stream } from "./stream.js";

const post = (what) => fetch("found", { method: "POST", body: JSON.stringify(what) });
try {
  const given = JSON.parse(new TextDecoder().decode(await read("given.json")));
  const noise = new Float32Array(await read("noise.bin"));
  const world = await readWorld();
  const sessions = await open(world, given.engine ?? "wasm");
  let at = 0;
  const stream = new Stream(world, sessions, (count) => noise.slice(at, at += count));
  await stream.begin(world.starts[0]);
  const frames = [];
  const began = performance.now();
  for (const action of given.actions) {
    frames.push([...await stream.picture(await stream.step(Float32Array.from(action), given.steps))]);
  }
  await post({ frames, drawn: at, seconds: (performance.now() - began) / 1000 });
} catch (error) {
  await post({ error: String(error?.stack ?? error) });
}
