// Plays the page as a visitor does, by its keys and buttons, and posts what it shows.
const find = (id) => document.getElementById(id);
const until = async (holds) => { while (!holds()) await new Promise((done) => setTimeout(done, 20)); };
const key = (kind, code) => document.body.dispatchEvent(new KeyboardEvent(kind, { code, bubbles: true }));
const pixels = () => [...find("screen").getContext("2d").getImageData(0, 0, 16, 16).data].join();
const pressed = () => [...document.querySelectorAll("#controls button")].map((b) => b.ariaPressed);

try {
  await until(() => !find("run").disabled || find("status").textContent.includes("does not work"));
  const found = { status: find("status").textContent, title: document.title, opened: performance.now() / 1000 };
  found.controls = [...document.querySelectorAll("#controls button")].map((b) => b.textContent);
  found.starts = find("starts").children.length;
  const first = pixels();
  key("keydown", "Digit1");
  found.pressed = pressed();
  await until(() => Number(find("count").textContent) >= 3);
  key("keyup", "Digit1");
  found.released = pressed();
  found.moved = pixels() !== first;
  found.running = find("run").textContent;
  find("speed").value = "most";
  find("speed").dispatchEvent(new Event("change"));
  find("run").click();
  const paused = Number(find("count").textContent);
  await new Promise((done) => setTimeout(done, 1000));
  found.more = Number(find("count").textContent) - paused; // those that were under way
  find("reset").click();
  await until(() => find("count").textContent === "0");
  found.reset = pixels() === first;
  const markup = document.querySelectorAll("#controls b").length;
  await fetch("found", { method: "POST", body: JSON.stringify({ ...found, markup }) });
} catch (error) {
  await fetch("found", { method: "POST", body: JSON.stringify({ error: String(error) }) });
}
