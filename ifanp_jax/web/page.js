// The page: a picture in, what is missing painted, the answers of POST /api/complete shown.

import { Painter, readMask } from "/painter.js";
import { Results } from "/results.js";

const $ = (id) => document.getElementById(id);
const state = { model: null, file: null, url: "", stem: "", lastMask: null, request: null, wanted: 4 };

const painter = new Painter({
  view: $("view"), stage: $("stage"), canvas: $("overlay"), cursor: $("cursor"), frame: $("frame"), onChange: tellShare,
});
const results = new Results({
  section: $("results"), answers: $("answers"), compare: $("compare"), after: $("after"), beforeImage: $("before"),
  beforeMask: $("before-mask"), beforeClip: $("before-clip"), handle: $("handle"), split: $("split"), splitValue: $("split-value"), uncertainty: $("uncertainty"),
  showUncertainty: $("show-uncertainty"), top: $("top"), legendTop: $("legend-top"),
});

// The model

async function loadModel() {
  try {
    state.model = await (await fetch("/api/model")).json();
  } catch {
    return complain("The server does not answer: is it still running?");
  }
  const [h, w, c] = state.model.image_shape;
  const colours = c === 1 ? "grey: it answers in grey" : "colour";
  $("model").textContent = `${state.model.name}, trained for ${state.model.step} steps on pictures of ${w}×${h} pixels in ${colours}.`;
  $("num-samples").max = state.model.limits.answers;
  $("rounds").max = state.model.limits.rounds;
}

// The picture

async function open(file) {
  if (!file) return;
  complain("");
  const { limits } = state.model ?? {};
  if (limits && file.size > limits.bytes) {
    return complain(`The file has ${(file.size / 2 ** 20).toFixed(1)} MiB; at most ${limits.bytes / 2 ** 20} MiB are allowed.`);
  }
  const url = URL.createObjectURL(file);
  const image = $("base");
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    if (state.url) image.src = state.url;
    return complain(`${file.name || "What was pasted"} is no picture that this browser can show: give PNG, JPEG or WebP.`);
  }
  const [w, h] = [image.naturalWidth, image.naturalHeight];
  if (limits && w * h > limits.pixels) {
    return complain(`The picture has ${w}×${h} pixels; at most ${limits.pixels.toLocaleString("en")} are allowed.`);
  }
  if (state.url) URL.revokeObjectURL(state.url);
  Object.assign(state, { file, url, stem: (file.name || "pasted.png").replace(/\.[^.]*$/, "") });
  $("picture-facts").textContent = `${file.name || "Pasted picture"}: ${w}×${h} pixels.`;
  $("drop").classList.remove("empty");
  for (const id of ["paint", "options"]) $(id).hidden = false;
  $("results").hidden = true;
  $("status").textContent = "";
  $("warnings").hidden = true;
  painter.start(w, h);
  boundAnswers(w * h);
  setBrush(Math.max(1, Math.round(Math.max(w, h) / 24)), Math.max(2, Math.round(Math.max(w, h) / 4)));
  $("zoom").value = "fit";
  zoom();
  await startWithTransparency(file);
  tellShare();
}

// What is transparent in a picture is missing.
async function startWithTransparency(file) {
  if (!["image/png", "image/webp", "image/gif"].includes(file.type)) return;
  const { width, height, missing, isOpaque } = await readMask(file);
  if (!isOpaque && width === painter.width && height === painter.height) painter.change(() => missing.map((opaque) => 1 - opaque));
}

// A large picture has few answers.
function boundAnswers(pixels) {
  const { answers, answer_pixels } = state.model?.limits ?? { answers: 16, answer_pixels: Infinity };
  const most = Math.max(1, Math.min(answers, Math.floor(answer_pixels / pixels)));
  $("num-samples").max = most;
  $("num-samples").value = Math.min(most, state.wanted);
  if (most < state.wanted) {
    $("status").textContent = `A picture of this size has at most ${most === 1 ? "one answer" : `${most} answers`} at a time.`;
  }
}

function fitWidth() {
  const available = $("view").clientWidth || $("drop").clientWidth;
  const wanted = Math.max(painter.width, 480); // small ones are enlarged
  return Math.min(available, wanted, ((window.innerHeight * 0.75) / painter.height) * painter.width);
}

function zoom() {
  const width = $("zoom").value === "fit" ? fitWidth() : Number($("zoom").value) * painter.width;
  const stage = $("stage");
  stage.style.width = `${width}px`;
  stage.style.height = `${(width / painter.width) * painter.height}px`;
  const isEnlarged = width > painter.width;
  for (const id of ["base", "overlay"]) $(id).classList.toggle("pixelated", isEnlarged);
}

// What is missing

function setBrush(value, max) {
  if (max) $("brush").max = max;
  $("brush").value = value;
  painter.brush = Number($("brush").value);
  $("brush-value").textContent = painter.brush === 1 ? "1 pixel" : `${painter.brush} pixels`;
}

function tellShare() {
  const total = painter.missing.length;
  const count = painter.count;
  const share = (100 * count) / total;
  let text = count ? `${share < 0.1 ? "Less than 0.1" : share.toFixed(1)} % of the picture is missing (${count} of ${total} pixels).` : "Nothing is painted yet.";
  if (share > 90) text += " Is the mask inverted?";
  $("share").textContent = text;
  $("complete").disabled = !count || state.request !== null;
  $("undo").disabled = !painter.history.length;
  $("last-mask").disabled = !state.lastMask;
}

function hideAtRandom() {
  const share = Math.min(99, Math.max(1, Number($("random-share").value) || 50)) / 100;
  painter.change((old) => {
    const count = Math.round(share * old.length);
    const missing = new Uint8Array(old.length).fill(1, 0, count);
    for (let i = missing.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [missing[i], missing[j]] = [missing[j], missing[i]];
    }
    return missing;
  });
}

async function loadMask(file) {
  if (!file) return;
  complain("");
  try {
    applyMask(await readMask(file), false);
  } catch {
    complain(`${file.name} is no picture that this browser can read: give a PNG.`);
  }
}

// The nearest pixel of the last mask where the sizes differ; a file must have the picture's size.
function applyMask(mask, mayResize) {
  const { width, height } = painter;
  if (!mayResize && (mask.width !== width || mask.height !== height)) {
    return complain(`The mask has ${mask.width}×${mask.height} pixels but the picture has ${width}×${height}: give a mask of that size.`);
  }
  painter.change((old) =>
    old.map((_, i) => {
      const x = Math.floor((((i % width) + 0.5) * mask.width) / width);
      const y = Math.floor(((Math.floor(i / width) + 0.5) * mask.height) / height);
      return mask.missing[y * mask.width + x];
    }),
  );
}

async function saveMask() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await painter.toFile());
  link.download = `${state.stem}_mask.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// The answer

async function complete() {
  for (const id of ["num-samples", "seed", "rounds"]) {
    if (!$(id).reportValidity() || ($(id).value === "" && id !== "rounds")) return;
  }
  complain("");
  $("warnings").hidden = true;
  const form = new FormData();
  const job = crypto.randomUUID?.() ?? `job-${Math.random().toString(36).slice(2)}${Date.now()}`;
  form.append("image", state.file);
  form.append("mask", await painter.toFile(), "mask.png");
  const options = { num_samples: $("num-samples").value, num_completed: $("num-completed").value, seed: $("seed").value, size: $("size").value, fill: $("fill").value, rounds: $("rounds").value };
  for (const [name, value] of Object.entries({ ...options, white: "missing", job })) form.append(name, value);
  state.lastMask = { width: painter.width, height: painter.height, missing: painter.missing.slice() };
  const shown = { before: state.url, mask: copyOverlay(), stem: state.stem, name: state.file.name || "pasted.png", fitWidth: Math.min(640, fitWidth()) };
  setBusy(true);
  const started = performance.now();
  const watching = setInterval(() => watch(job), 700);
  try {
    const answer = await send(form);
    if (shown.before !== state.url) return; // another picture was opened meanwhile
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    $("status").textContent = `Done in ${seconds} s.`;
    $("warnings").replaceChildren(...answer.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    $("warnings").hidden = !answer.warnings.length;
    tellCommands(options, shown);
    await results.show(answer, { ...shown, pixelated: shown.fitWidth > answer.width });
    $("results").focus({ preventScroll: true });
    $("results").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  } catch (error) {
    $("status").textContent = error.message === "cancelled" ? "Cancelled." : "";
    if (error.message !== "cancelled") complain(error.message);
  } finally {
    clearInterval(watching);
    setBusy(false);
  }
}

function copyOverlay() {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: painter.width, height: painter.height });
  canvas.getContext("2d").drawImage(painter.canvas, 0, 0);
  return canvas;
}

// XMLHttpRequest tells how much is uploaded; fetch does not.
function send(form) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    state.request = request;
    request.open("POST", "/api/complete");
    request.responseType = "json";
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.loaded < event.total) tellProgress("Sending…", event.loaded / event.total);
      else tellProgress("Waiting for the server…");
    };
    const fail = (text) => {
      state.request = null; // a state that is still on its way is not shown any more
      reject(new Error(text));
    };
    request.onabort = () => fail("cancelled");
    request.onerror = () => fail("The server does not answer: is it still running?");
    request.onload = () => {
      state.request = null;
      if (request.status === 200 && request.response) resolve(request.response);
      else fail(request.response?.error ?? `The server answered with status ${request.status}.`);
    };
    request.send(form);
  });
}

async function watch(job) {
  try {
    const response = await fetch(`/api/progress/${job}`);
    if (!response.ok || !state.request) return;
    const progress = await response.json();
    if (!state.request) return;
    if (progress.state === "waiting") tellProgress(`Waiting; ${progress.ahead} before you…`);
    else if (progress.done) tellProgress(tellTiles(progress), progress.done / progress.total);
    else tellProgress(`Completing for ${Math.round(progress.seconds)} s… The first picture of a size takes longer.`);
  } catch {
    // the request itself will tell
  }
}

function tellTiles({ done, total, seconds_left: left }) {
  const time = left === undefined ? "" : `; about ${left < 100 ? `${Math.ceil(left)} s` : `${Math.round(left / 60)} min`} left`;
  return `${done} of ${total} tiles are done${time}.`;
}

function tellProgress(text, value) {
  $("status").textContent = text;
  if (value === undefined) $("progress").removeAttribute("value");
  else $("progress").value = value;
}

function setBusy(isBusy) {
  if (!isBusy) state.request = null;
  $("complete").disabled = isBusy || !painter.count;
  for (const id of ["cancel", "progress"]) $(id).hidden = !isBusy;
  if (isBusy) tellProgress("Sending…");
  else tellShare();
}

function tellCommands({ num_samples, num_completed, seed, size, fill, rounds }, { name, stem }) {
  const { flag, python } = state.model;
  const quote = (text) => (/^[\w.@%+=:,/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  $("command").textContent = [
    `ifanp-jax --mode=complete ${flag} --input=${quote(name)} \\`,
    `    --mask=${quote(`${stem}_mask.png`)} --invert_mask --output=completed \\`,
    `    --num_samples=${num_samples} --num_completed=${num_completed} --seed=${seed} --size=${size} --fill=${fill}${rounds && ` --rounds=${rounds}`}`,
  ].join("\n");
  $("python").textContent = [
    "import ifanp_jax",
    "from ifanp_jax.data import image_ops, masks",
    "",
    `model = ${python}`,
    `picture = image_ops.read_picture(${JSON.stringify(name)})`,
    "picture = image_ops.to_channels(picture, model.image_shape[-1])",
    `missing = masks.load(${JSON.stringify(`${stem}_mask.png`)})`,
    `result = model.complete(picture, ~missing, num_samples=${num_samples}, num_completed=${num_completed}, seed=${seed}, size="${size}", fill="${fill}"${rounds && `, rounds=${rounds}`})`,
    "result.completed  # float32 in [0, 1]",
  ].join("\n");
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText($(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($(button.dataset.copy));
    button.textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

// What a person does

$("choose").onclick = () => $("file").click();
$("file").onchange = (event) => { open(event.target.files[0]); event.target.value = ""; };
$("load-mask").onclick = () => $("mask-file").click();
$("mask-file").onchange = (event) => { loadMask(event.target.files[0]); event.target.value = ""; };
$("save-mask").onclick = $("save-mask-again").onclick = saveMask;
$("last-mask").onclick = () => applyMask(state.lastMask, true);
$("undo").onclick = () => painter.undo();
$("clear").onclick = () => painter.change((old) => new Uint8Array(old.length));
$("invert").onclick = () => painter.change((old) => old.map((value) => 1 - value));
$("random").onclick = hideAtRandom;
$("brush").oninput = (event) => setBrush(event.target.value);
$("zoom").onchange = zoom;
$("num-samples").oninput = (event) => (state.wanted = Number(event.target.value) || 1);
$("complete").onclick = complete;
$("cancel").onclick = () => state.request?.abort();
for (const button of document.querySelectorAll("[data-copy]")) button.onclick = () => copy(button);
for (const radio of document.getElementsByName("tool")) radio.onchange = () => painter.setTool(radio.value);
addEventListener("resize", () => painter.width && zoom());
addEventListener("paste", (event) => open([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dragging"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  open(event.dataTransfer.files[0]);
});
addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range" && event.target.type !== "radio";
  if (isTyping || !painter.width) return;
  const tool = { b: "brush", e: "eraser", r: "rectangle" }[event.key.toLowerCase()];
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") painter.undo();
  else if (event.ctrlKey || event.metaKey || event.altKey || event.target !== $("overlay")) return;
  else if (tool) document.querySelector(`[name=tool][value=${tool}]`).click();
  else if (event.key === "[") setBrush(painter.brush - Math.max(1, Math.round(painter.brush / 8)));
  else if (event.key === "]") setBrush(painter.brush + Math.max(1, Math.round(painter.brush / 8)));
  else return;
  event.preventDefault();
});

loadModel();
