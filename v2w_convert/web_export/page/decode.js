// The decoder, in a thread of its own: while it decodes a frame, the worker computes the next one.

let ort, session;

onmessage = async ({ data }) => {
  try {
    if (session === undefined) {
      const { module, wasm, graph, options } = data;
      ort = await import(`./${module}`);
      Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1 });
      ort.env.logLevel = "error";
      session = await ort.InferenceSession.create(new Uint8Array(graph), options);
      postMessage({});
      return;
    }
    const latents = new ort.Tensor("float32", data.latents, data.shape);
    const pixels = (await session.run({ latents })).picture.data;
    postMessage({ pixels }, [pixels.buffer]);
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
};
