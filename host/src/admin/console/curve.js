// Curves of the last minutes.

const SVG = "http://www.w3.org/2000/svg";

/** Samples of a curve: one each second while the host sends events. */
const SAMPLES = 120;

/** The newest samples of each stream, which outlast the page that shows them. */
export class History {
  #samples = new Map();

  /** Adds a sample for each key, and forgets other keys. */
  add(samples) {
    const before = this.#samples;
    this.#samples = new Map(samples.map(([key, sample]) => [key, [...(before.get(key) ?? []), sample].slice(-SAMPLES)]));
  }

  of(key) {
    return this.#samples.get(key) ?? [];
  }
}

/** A curve whose newest sample is at its right end. */
export class Curve {
  #line = document.createElementNS(SVG, "path");
  #area = document.createElementNS(SVG, "path");
  node = document.createElementNS(SVG, "svg");

  constructor(label) {
    this.node.setAttribute("class", "curve");
    this.node.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 100`);
    this.node.setAttribute("preserveAspectRatio", "none");
    this.node.setAttribute("role", "img");
    this.node.setAttribute("aria-label", label);
    this.#line.setAttribute("class", "line");
    this.#area.setAttribute("class", "area");
    this.node.append(this.#area, this.#line);
  }

  show(samples) {
    const top = Math.max(...samples, 1) * 1.1;
    const left = SAMPLES - samples.length;
    const points = samples.map((sample, at) => `${left + at} ${(100 - (sample / top) * 100).toFixed(2)}`);
    const line = points.length ? `M${points.join("L")}` : "";
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", line && `${line}L${SAMPLES - 1} 100L${left} 100Z`);
  }
}
