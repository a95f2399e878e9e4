// The answers: a large one with a slider to the picture before, all of them side by side, files to keep.

const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // as in page.css

export class Results {
  constructor(elements) {
    this.elements = elements;
    this.urls = [];
    const { split, showUncertainty, top, compare } = elements;
    split.addEventListener("input", () => this.#showSplit());
    showUncertainty.addEventListener("change", () => this.#drawUncertainty());
    top.addEventListener("change", () => this.#drawUncertainty());
    compare.addEventListener("pointerdown", (event) => {
      compare.setPointerCapture(event.pointerId);
      this.#dragSplit(event);
    });
    compare.addEventListener("pointermove", (event) => event.buttons && this.#dragSplit(event));
  }

  // answer: what the server sent; before: address of the picture; mask: canvas of what was painted.
  async show(answer, { before, mask, stem, pixelated, fitWidth }) {
    const { section, answers, compare, beforeMask, beforeImage, split } = this.elements;
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
    const files = [["completed", answer.completed], ...answer.alternatives.map((file, i) => [`completed_${i + 2}`, file]), ["mean", answer.mean], ...answer.samples.map((file, i) => [`sample_${i + 1}`, file]), ["uncertainty", answer.uncertainty]];
    answers.replaceChildren();
    section.hidden = false;
    for (const image of compare.querySelectorAll("img")) image.classList.toggle("pixelated", pixelated);
    for (const canvas of compare.querySelectorAll("canvas")) canvas.classList.toggle("pixelated", pixelated);
    compare.style.width = `min(100%, ${fitWidth}px)`;
    compare.style.aspectRatio = `${answer.width} / ${answer.height}`;
    beforeImage.src = before;
    Object.assign(beforeMask, { width: answer.width, height: answer.height });
    beforeMask.getContext("2d").drawImage(mask, 0, 0);
    this.mask = mask;
    for (const [name, file] of files) answers.append(this.#makeFigure(name, this.#makeUrl(file), stem, pixelated));
    answers.querySelector("button").click();
    split.value = 0;
    this.#showSplit();
    this.uncertainty = await createImageBitmap(toBlob(answer.uncertainty));
    this.white = answer.white_uncertainty;
    this.#drawUncertainty();
  }

  #makeUrl(file) {
    const url = URL.createObjectURL(toBlob(file));
    this.urls.push(url);
    return url;
  }

  #makeFigure(name, url, stem, pixelated) {
    const title = name.replace("completed_", "Completed ").replace("completed", "Completed").replace("sample_", "Answer ").replace("mean", "Best estimate").replace("uncertainty", "Uncertainty");
    const [figure, button, image, caption, link] = ["figure", "button", "img", "figcaption", "a"].map((tag) => document.createElement(tag));
    Object.assign(image, { src: url, alt: title });
    image.classList.toggle("pixelated", pixelated);
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(image);
    button.addEventListener("click", () => {
      for (const other of this.elements.answers.querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
      Object.assign(this.elements.after, { src: url, alt: title });
    });
    Object.assign(link, { href: url, download: `${stem}_${name}.png`, textContent: "Save" });
    link.setAttribute("aria-label", `Download ${title}`);
    link.id = `download-${name}`;
    caption.append(title, link);
    figure.append(button, caption);
    return figure;
  }

  #dragSplit(event) {
    const box = this.elements.compare.getBoundingClientRect();
    this.elements.split.value = ((event.clientX - box.left) / box.width) * 100;
    this.#showSplit();
  }

  #showSplit() {
    const { split, splitValue, beforeClip, handle } = this.elements;
    beforeClip.style.clipPath = `inset(0 ${100 - split.value}% 0 0)`;
    handle.style.left = `${split.value}%`;
    handle.hidden = split.value === "0" || split.value === "100"; // at an edge it looks like a part of the picture
    splitValue.textContent = `${Math.round(split.value)} %`;
  }

  // The grey map in colours, over missing pixels only; linear from 0 to the chosen value.
  #drawUncertainty() {
    const { uncertainty: canvas, showUncertainty, top, legendTop } = this.elements;
    canvas.hidden = !showUncertainty.checked;
    legendTop.textContent = `${top.value} and more`;
    if (canvas.hidden || !this.uncertainty) return;
    const { width, height } = this.uncertainty;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.mask, 0, 0);
    const alpha = context.getImageData(0, 0, width, height).data;
    context.drawImage(this.uncertainty, 0, 0);
    const image = context.getImageData(0, 0, width, height);
    for (let i = 0; i < image.data.length; i += 4) {
      const value = Math.min(1, ((image.data[i] / 255) * this.white) / Number(top.value));
      image.data.set([...colour(value), alpha[i + 3] ? 235 : 0], i);
    }
    context.putImageData(image, 0, 0);
  }
}

function colour(value) {
  const at = value * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(at));
  return RAMP[low].map((start, i) => start + (RAMP[low + 1][i] - start) * (at - low));
}

function toBlob(file) {
  return new Blob([Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}
