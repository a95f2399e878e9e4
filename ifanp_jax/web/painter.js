// What is missing: one byte per pixel of the picture, painted by pointer or keyboard.

const COLOUR = new Uint32Array(new Uint8Array([208, 32, 143, 255]).buffer)[0]; // of missing pixels, as RGBA in memory
const UNDO_BYTES = 64e6;

export class Painter {
  constructor({ view, stage, canvas, cursor, frame, onChange }) {
    Object.assign(this, { view, stage, canvas, cursor, frame, onChange });
    this.tool = "brush";
    this.width = this.height = 0;
    this.brush = 10; // diameter, in pixels of the picture
    this.missing = new Uint8Array(0);
    this.history = [];
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#lift(event));
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    canvas.addEventListener("blur", () => this.#hideCursor());
  }

  start(width, height) {
    Object.assign(this, { width, height, history: [], start_: null, isDown: false });
    this.canvas.width = width;
    this.canvas.height = height;
    this.at = { x: width >> 1, y: height >> 1 };
    this.missing = new Uint8Array(width * height);
    this.#draw(0, 0, width, height);
  }

  get count() {
    let sum = 0;
    for (const value of this.missing) sum += value;
    return sum;
  }

  // Changes all pixels at once: change(old) returns the new ones.
  change(change) {
    this.#remember();
    this.missing = change(this.missing);
    this.#draw(0, 0, this.width, this.height);
    this.onChange();
  }

  undo() {
    const last = this.history.pop();
    if (!last) return;
    this.missing = last;
    this.#draw(0, 0, this.width, this.height);
    this.onChange();
  }

  // A PNG of the picture's size, white = missing.
  toFile() {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: this.width, height: this.height });
    const image = new ImageData(this.width, this.height);
    new Uint32Array(image.data.buffer).forEach((_, i, data) => (data[i] = this.missing[i] ? 0xffffffff : 0xff000000));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  setTool(tool) {
    this.tool = tool;
    this.canvas.classList.toggle("moving", tool === "move");
    this.#hideCursor();
  }

  #remember() {
    this.history.push(this.missing.slice());
    const most = Math.max(3, Math.floor(UNDO_BYTES / this.missing.length));
    if (this.history.length > most) this.history.shift();
  }

  #draw(left, top, right, bottom) {
    left = Math.max(0, left);
    top = Math.max(0, top);
    const [w, h] = [Math.min(this.width, right) - left, Math.min(this.height, bottom) - top];
    if (w < 1 || h < 1) return;
    const image = new ImageData(w, h);
    const pixels = new Uint32Array(image.data.buffer);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        if (this.missing[(top + y) * this.width + left + x]) pixels[y * w + x] = COLOUR;
      }
    }
    this.canvas.getContext("2d").putImageData(image, left, top);
  }

  #fill(left, top, right, bottom, isInside) {
    const value = this.tool === "eraser" ? 0 : 1;
    for (let y = Math.max(0, top); y < Math.min(this.height, bottom); y++) {
      for (let x = Math.max(0, left); x < Math.min(this.width, right); x++) {
        if (isInside(x, y)) this.missing[y * this.width + x] = value;
      }
    }
    this.#draw(left, top, right, bottom);
  }

  // All pixels whose centre is within half a brush of the line, and those at its ends.
  #stroke(from, to) {
    const radius = this.brush / 2;
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = dx * dx + dy * dy;
    const [x0, y0] = [Math.floor(Math.min(from.x, to.x) - radius), Math.floor(Math.min(from.y, to.y) - radius)];
    const [x1, y1] = [Math.ceil(Math.max(from.x, to.x) + radius) + 1, Math.ceil(Math.max(from.y, to.y) + radius) + 1];
    const squared = Math.max(radius, 0.71) ** 2;
    this.#fill(x0, y0, x1, y1, (x, y) => {
      const [px, py] = [x + 0.5 - from.x, y + 0.5 - from.y];
      const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      return (px - t * dx) ** 2 + (py - t * dy) ** 2 <= squared;
    });
  }

  #rectangle(a, b) {
    const [x0, x1] = [Math.min(a.x, b.x), Math.max(a.x, b.x)].map(Math.floor);
    const [y0, y1] = [Math.min(a.y, b.y), Math.max(a.y, b.y)].map(Math.floor);
    this.#fill(x0, y0, x1 + 1, y1 + 1, () => true);
  }

  #position(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * this.width,
      y: ((event.clientY - box.top) / box.height) * this.height,
    };
  }

  #press(event) {
    if (this.tool === "move" || event.button !== 0 || !this.width) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    this.#hideCursor();
    this.#remember();
    this.pointer = event.pointerId;
    this.last = this.first = this.#position(event);
    if (this.tool !== "rectangle") this.#stroke(this.last, this.last);
  }

  #drag(event) {
    if (event.pointerId !== this.pointer) return;
    const to = this.#position(event);
    if (this.tool === "rectangle") this.#showFrame(this.first, to);
    else this.#stroke(this.last, to);
    this.last = to;
  }

  #lift(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    if (this.tool === "rectangle") {
      if (event.type === "pointerup") this.#rectangle(this.first, this.#position(event));
      this.frame.hidden = true;
    }
    this.onChange();
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.tool === "move") return;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(this.brush));
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) this.#moveCursor(...moves[event.key]);
    else if (event.key === " ") this.#toggle();
    else if (event.key === "Escape" && this.isDown) this.#hideCursor();
    else return;
    event.preventDefault();
  }

  #moveCursor(dx, dy) {
    const from = { x: this.at.x + 0.5, y: this.at.y + 0.5 };
    this.at.x = Math.min(this.width - 1, Math.max(0, this.at.x + dx));
    this.at.y = Math.min(this.height - 1, Math.max(0, this.at.y + dy));
    const to = { x: this.at.x + 0.5, y: this.at.y + 0.5 };
    if (this.isDown && this.tool === "rectangle") this.#showFrame(this.first, to);
    else if (this.isDown) this.#stroke(from, to);
    this.#showCursor();
  }

  #toggle() {
    const here = { x: this.at.x + 0.5, y: this.at.y + 0.5 };
    this.isDown = !this.isDown;
    if (this.isDown) {
      this.#remember();
      this.first = here;
      if (this.tool !== "rectangle") this.#stroke(here, here);
    } else if (this.tool === "rectangle") {
      this.#rectangle(this.first, here);
      this.frame.hidden = true;
    }
    this.#showCursor();
    this.onChange();
  }

  #showCursor() {
    const scale = this.canvas.clientWidth / this.width;
    const size = Math.max(8, this.brush * scale);
    const [x, y] = [(this.at.x + 0.5) * scale, (this.at.y + 0.5) * scale];
    Object.assign(this.cursor.style, { width: `${size}px`, height: `${size}px` });
    Object.assign(this.cursor.style, { left: `${x - size / 2}px`, top: `${y - size / 2}px` });
    this.cursor.classList.toggle("down", this.isDown);
    this.cursor.hidden = false;
    this.view.scrollTo({ left: x - this.view.clientWidth / 2, top: y - this.view.clientHeight / 2 });
  }

  #hideCursor() {
    if (this.isDown) this.onChange();
    this.isDown = false;
    this.cursor.hidden = this.frame.hidden = true;
  }

  #showFrame(a, b) {
    const scale = this.canvas.clientWidth / this.width;
    const [x, y] = [Math.min(a.x, b.x), Math.min(a.y, b.y)].map((value) => Math.floor(value) * scale);
    const [w, h] = [Math.abs(a.x - b.x), Math.abs(a.y - b.y)].map((value) => (value + 1) * scale);
    Object.assign(this.frame.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
    this.frame.hidden = false;
  }
}

// The missing pixels that a mask file shows: white, or, where it has transparency, opaque.
export async function readMask(file) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const missing = new Uint8Array(width * height);
  let isOpaque = true;
  for (let i = 3; i < data.length; i += 4) isOpaque = isOpaque && data[i] === 255;
  for (let i = 0; i < missing.length; i++) {
    const luma = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
    missing[i] = isOpaque ? luma >= 127.5 : data[4 * i + 3] >= 128;
  }
  return { width, height, missing, isOpaque };
}
