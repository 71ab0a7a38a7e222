// The page: shows what the worker computes, and tells it what is pressed. All text from world.json is set as text.

const find = (id) => document.getElementById(id);
const screen = find("screen"), picture = screen.getContext("2d");
const KEYS = [ // by words in an action's name
  [/left/, ["ArrowLeft", "KeyA"], "←"],
  [/right/, ["ArrowRight", "KeyD"], "→"],
  [/forward|up\b|accelerate/, ["ArrowUp", "KeyW"], "↑"],
  [/back|down|brake/, ["ArrowDown", "KeyS"], "↓"],
  [/attack|shoot|fire|jump|use/, ["Space"], "Space"],
];
const RECENT = 20; // frames over which their rate is measured

let worker, world;
let values; // of the action
let chosen = 0, playing = false, begun = false, frames = 0, times = [];
const send = (kind, more) => worker.postMessage({ kind, ...more });
const tell = (text) => { find("status").textContent = text; };

function launch(engine) {
  worker?.terminate();
  begun = false;
  setPlaying(false);
  find("progress").hidden = false;
  worker = new Worker("worker.js", { type: "module" });
  worker.onerror = (event) => fail(event.message || "the worker cannot be loaded");
  worker.onmessage = ({ data }) => handlers[data.kind](data);
  send("open", { engine });
}

function fail(message) {
  find("progress").hidden = true;
  find("run").disabled = find("reset").disabled = true;
  tell(`This does not work here: ${message}`);
}

const handlers = {
  world({ world: said }) {
    const first = world === undefined;
    world = said;
    if (first) build();
    sendSettings();
  },
  loading({ bytes }) { tell(`Loading: ${(bytes / 1e6).toFixed(1)} MB`); },
  ready() { tell("Loaded; preparing the first frame"); },
  start({ pixels, index }) {
    draw(find("starts").children[index].firstChild, pixels);
    if (index === world.starts.length - 1) restart();
    if (index === chosen && !begun) draw(screen, pixels);
  },
  begun({ pixels }) {
    begun = true;
    frames = 0;
    draw(screen, pixels);
    find("count").textContent = "0";
    find("progress").hidden = true;
    find("run").disabled = find("reset").disabled = false;
    tell("Ready: press Play, or an action");
    if (playing) setPlaying(true);
  },
  frame({ pixels, ms }) {
    draw(screen, pixels);
    frames += 1;
    times = [...times, performance.now()].slice(-RECENT - 1);
    find("count").textContent = frames;
    find("cost").textContent = Math.round(ms);
    const seconds = (times.at(-1) - times[0]) / 1000;
    if (times.length > 1) find("rate").textContent = ((times.length - 1) / seconds).toFixed(1);
  },
  error({ message }) {
    setPlaying(false);
    fail(message);
  },
};

function draw(canvas, pixels) {
  const context = canvas === screen ? picture : canvas.getContext("2d");
  context.putImageData(new ImageData(pixels, world.width, world.height), 0, 0);
}

function setPlaying(on) {
  playing = on;
  times = [];
  find("run").textContent = on ? "Pause" : "Play";
  if (worker && begun) {
    send("play", { playing });
    tell(on ? "Playing" : "Paused");
  }
}

function restart() {
  begun = false;
  times = [];
  for (const [i, button] of [...find("starts").children].entries()) {
    button.setAttribute("aria-pressed", i === chosen);
  }
  send("start", { index: chosen, seed: Number(find("seed").value) >>> 0 });
}

function sendSettings() {
  send("steps", { steps: find("steps").value });
  send("interval", { interval: find("speed").value === "data" ? 1000 / world.fps : 0 });
  sendAction();
}

function sendAction() { send("action", { action: Float32Array.from(values) }); }

/** Press or release a control; a choice's others are released. */
function press(control, on) {
  if (control.on === on) return;
  if (control.kind === "choice") {
    if (!on) return; // one of them stays chosen
    for (const other of world.controls) if (other.group === control.group) set(other, other === control);
  } else {
    set(control, on);
  }
  sendAction();
  if (on && begun && !playing) setPlaying(true);
}

function set(control, on) {
  control.on = on;
  values[control.at] = on ? 1 : 0;
  control.button.setAttribute("aria-pressed", on);
}

/** A control's keys: by its name, else the next digit. */
function keysOf(control, taken) {
  const name = control.label.toLowerCase().replaceAll("_", " ");
  for (const [words, codes, shown] of KEYS) {
    if (words.test(name) && !taken.has(codes[0])) return [codes, shown];
  }
  const digit = [1, 2, 3, 4, 5, 6, 7, 8, 9].find((n) => !taken.has(`Digit${n}`));
  return digit ? [[`Digit${digit}`], String(digit)] : [[], ""];
}

function build() {
  document.title = find("title").textContent = world.title;
  screen.width = world.width;
  screen.height = world.height;
  values = new Array(world.action_dim).fill(0);
  const codes = new Map(), taken = new Set();
  for (const control of world.controls) {
    if (control.kind === "amount") {
      buildAmount(control);
      continue;
    }
    const [keys, shown] = keysOf(control, taken);
    keys.forEach((code) => { taken.add(code); codes.set(code, control); });
    const button = control.button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", false);
    button.append(Object.assign(document.createElement("span"), { textContent: control.label.replaceAll("_", " ") }));
    if (shown) button.append(Object.assign(document.createElement("kbd"), { textContent: shown }));
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      press(control, true);
    });
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) {
      button.addEventListener(kind, () => press(control, false));
    }
    const held = (on) => (event) => {
      if (event.code !== "Space" && event.code !== "Enter") return;
      event.preventDefault();
      press(control, on);
    };
    button.addEventListener("keydown", held(true));
    button.addEventListener("keyup", held(false));
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    find("controls").append(button);
  }
  const firstOf = new Set();
  for (const control of world.controls) {
    if (control.kind === "choice" && !firstOf.has(control.group)) set(control, true);
    firstOf.add(control.group);
  }
  const pressed = (on) => (event) => {
    const control = codes.get(event.code);
    if (!control || event.ctrlKey || event.metaKey || event.altKey) return;
    if (on && event.target.closest("button, select, input, summary") && !event.code.startsWith("Arrow")) return;
    if (event.target.closest("select, input")) return;
    event.preventDefault();
    press(control, on);
  };
  addEventListener("keydown", pressed(true));
  addEventListener("keyup", pressed(false));
  addEventListener("blur", () => world.controls.forEach((control) => control.button && press(control, false)));
  for (const [i, start] of world.starts.entries()) {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: world.width, height: world.height });
    button.type = "button";
    button.title = start.label;
    button.setAttribute("aria-label", start.label);
    button.append(canvas);
    button.addEventListener("click", () => {
      if (find("run").disabled) return;
      chosen = i;
      restart();
    });
    find("starts").append(button);
  }
  for (const count of Object.keys(world.steps)) {
    const chosenFirst = Number(count) === world.first_steps;
    find("steps").append(new Option(count, count, chosenFirst, chosenFirst));
  }
  find("speed").options[0].textContent = `recorded: ${+world.fps.toFixed(2)}/s`;
  find("steps").addEventListener("change", sendSettings);
  find("speed").addEventListener("change", sendSettings);
  find("seed").addEventListener("change", restart);
  find("run").addEventListener("click", () => setPlaying(!playing));
  find("reset").addEventListener("click", restart);
  if (world.engines.webgpu && navigator.gpu) {
    find("engine-row").hidden = false;
    find("engine").append(new Option("WebAssembly", "wasm"), new Option("WebGPU", "webgpu"));
    find("engine").addEventListener("change", () => launch(find("engine").value));
  }
}

function buildAmount(control) {
  const label = document.createElement("label");
  const shown = document.createElement("output");
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: control.low, max: control.high, step: "any" });
  slider.value = Math.min(Math.max(0, control.low), control.high);
  const moved = () => {
    values[control.at] = Number(slider.value);
    shown.textContent = Number(slider.value).toPrecision(3);
  };
  slider.addEventListener("input", () => { moved(); sendAction(); });
  moved();
  label.append(control.label.replaceAll("_", " "), shown, slider);
  find("controls").append(label);
}

launch("wasm");
