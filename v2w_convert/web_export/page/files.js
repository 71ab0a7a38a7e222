// The folder's files, and sessions of onnxruntime on them.

const ARRAYS = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };

/** The bytes of a file; `told` is called with the number of bytes so far. */
export async function read(name, told = () => {}) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  const parts = [];
  let count = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    told(count += value.length);
  }
  const whole = new Blob(parts);
  const head = new Uint8Array(await whole.slice(0, 2).arrayBuffer());
  const packed = head[0] === 0x1f && head[1] === 0x8b; // some servers unpack .gz themselves
  return packed
    ? new Response(whole.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer()
    : whole.arrayBuffer();
}

/** The facts in world.json, with all starts' tensors as typed arrays. */
export async function readWorld() {
  const [text, data] = await Promise.all([read("world.json"), read("starts.bin")]);
  const world = JSON.parse(new TextDecoder().decode(text));
  for (const start of world.starts) {
    for (const tensor of Object.values(start.tensors)) {
      const size = tensor.shape.reduce((a, b) => a * b, 1);
      tensor.data = new ARRAYS[tensor.dtype](data, tensor.offset, size);
    }
  }
  return world;
}

/** onnxruntime and the two sessions, by "wasm" or "webgpu". On WebAssembly the decoder has a thread of its own. */
export async function open(world, engine, told = () => {}) {
  const [module, binary] = world.engines[engine];
  const names = ["step.onnx.gz", "decode.onnx.gz", `${binary}.gz`];
  const counts = names.map(() => 0);
  const progress = (i) => (count) => {
    counts[i] = count;
    told(counts.reduce((a, b) => a + b));
  };
  const [ort, step, decode, wasm] = await Promise.all([
    import(`./${module}`),
    ...names.map((name, i) => read(name, progress(i))),
  ]);
  ort.env.wasm.wasmBinary = wasm;
  // Threads need shared memory, which only pages with the headers of cross-origin isolation have.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.logLevel = "error";
  const options = { executionProviders: [engine], graphOptimizationLevel: "all" };
  // One after the other: the first compiles the WebAssembly.
  const sessions = {
    ort,
    step: await ort.InferenceSession.create(new Uint8Array(step), options),
    decode: await (engine === "wasm"
      ? elsewhere({ module, wasm, graph: decode, options })
      : ort.InferenceSession.create(new Uint8Array(decode), options)),
  };
  return sessions;
}

/** A session in decode.js, which takes latents one after another. */
async function elsewhere(given) {
  const worker = new Worker("decode.js", { type: "module" });
  const ask = (message, owned = []) => new Promise((done, failed) => {
    worker.onerror = (event) => failed(new Error(event.message || "decode.js cannot be loaded"));
    worker.onmessage = ({ data }) => (data.error === undefined ? done(data) : failed(new Error(data.error)));
    worker.postMessage(message, owned);
  });
  await ask(given, [given.graph]);
  return {
    async run({ latents: { data, dims } }) {
      return { picture: { data: (await ask({ latents: data, shape: dims })).pixels } };
    },
  };
}
