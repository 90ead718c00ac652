// The page of streams: a card for each, with its rate, viewers, mounts and players.

import { read } from "./api.js";
import { Curve } from "./curve.js";
import { KeyedList, badge, element, setBadge, setText } from "./elements.js";
import { bitrate, count, duration } from "./format.js";
import { Player, isPlayable } from "./player.js";

const DEFAULT_VHOST = "__defaultVhost__";
/** The page shows at most this many streams and mounts. */
const SHOWN = "?count=1000";

/** The page. */
export class StreamsPage {
  #totals = element("p", { class: "totals" });
  #filter = element("input", { type: "search", placeholder: "Filter streams", "aria-label": "Filter streams" });
  #cards = element("div", { class: "cards" });
  #empty = element("div", { class: "card wide empty", hidden: true });
  #list = new KeyedList(this.#cards, (stream) => stream.name, (stream) => new StreamCard(stream));
  #store;
  nodes = [element("div", { class: "bar" }, this.#totals, this.#filter), this.#empty, this.#cards];

  constructor() {
    this.#filter.addEventListener("input", () => this.redraw());
  }

  focusFilter() {
    this.#filter.focus();
  }

  /** Fetches the streams and their mounts, and shows them. */
  async update(store) {
    const [{ streams }, { mounts }] = await Promise.all([read(`/api/v2/streams${SHOWN}`), read(`/api/v2/mounts${SHOWN}`)]);
    Object.assign(store, { streams, mounts });
    if (!store.isFed) store.rates.add(streams.map(({ name, kilobits_per_second: rate }) => [name, rate]));
    this.#store = store;
    this.redraw();
  }

  /** Shows the store again, which has changed. */
  redraw() {
    const store = this.#store;
    if (!store) return;
    const streams = store.streams;
    const words = this.#filter.value.toLowerCase();
    const shown = streams.filter((stream) => stream.name.toLowerCase().includes(words));
    const sum = (value) => streams.reduce((total, stream) => total + value(stream), 0);
    this.#totals.replaceChildren(
      total(count(streams.filter((stream) => stream.publisher).length), "live"),
      total(count(sum((stream) => stream.viewers)), "viewers"),
      total(bitrate(sum((stream) => stream.kilobits_per_second)), "in"),
    );
    this.#list.show(shown.map((stream) => ({
      ...stream, mounts: mountsOf(stream, store), rates: store.rates.of(stream.name),
    })));
    this.#empty.hidden = shown.length > 0;
    const [what, hint] = streams.length
      ? ["No stream has such a name.", ""]
      : ["Nobody publishes. Send a stream to", `${origin(store, "rtmp") ?? "rtmp://HOST"}/live/film`];
    if (!shown.length) this.#empty.replaceChildren(what, hint && element("code", {}, hint));
  }

  close() {
    this.#list.clear();
  }
}

/** Returns the origin of the first listener of a kind, as this page reaches it; undefined without one. */
function origin({ listeners }, kind) {
  const port = listeners.find((listener) => listener.kind === kind)?.address.split(":").at(-1);
  return port && `${kind}://${location.hostname}:${port}`;
}

/** Returns the mounts of a stream, with whole URLs. */
function mountsOf({ name }, store) {
  // A page that came over TLS may load nothing else.
  const base = (location.protocol === "https:" ? null : origin(store, "http")) ?? origin(store, "https") ?? location.origin;
  return store.mounts.filter(({ stream }) => stream === name).map((mount) => {
    const url = new URL(mount.url, base);
    // The name under which this page reaches the host may be another vhost's, or none's.
    if (mount.vhost !== DEFAULT_VHOST) url.searchParams.set("vhost", mount.vhost);
    if (mount.transport === "websocket") url.protocol = url.protocol.replace("http", "ws");
    return { ...mount, url: url.href };
  });
}

const total = (number, what) => element("span", {}, element("b", { class: "number" }, number), ` ${what}`);

class StreamCard {
  #state = badge("");
  #uptime = element("span", { class: "dim number" });
  #chips = element("div", { class: "chips" });
  #rate = element("b");
  #viewers = element("b");
  #formats = element("span");
  #curve;
  #mounts = element("tbody");
  #screens = element("div", { class: "screens" });
  #list = new KeyedList(this.#mounts, (mount) => `${mount.transport} ${mount.url}`,
    (mount) => new MountRow(mount, this.#screens));
  #publisher = element("p", { class: "dim" });
  node;

  constructor({ name }) {
    this.#curve = new Curve(`Bitrate of ${name} in the last minutes`);
    const heads = ["mount", "viewers", "lag", ""].map((head) => element("th", { scope: "col" }, head));
    this.node = element("article", { class: "card", "data-stream": name },
      element("div", { class: "title" }, element("h2", {}, name), this.#state, this.#uptime),
      this.#chips,
      element("div", { class: "figures" },
        element("div", { class: "figure" }, this.#rate, element("span", {}, "publisher")),
        element("div", { class: "figure" }, this.#viewers, this.#formats),
        this.#curve.node),
      element("table", {}, element("thead", {}, element("tr", {}, ...heads)), this.#mounts),
      this.#screens,
      element("div", { class: "title" }, this.#publisher,
        element("a", { href: `#sessions?stream=${encodeURIComponent(name)}` }, "Sessions")));
  }

  update(stream) {
    const { publisher, video, audio, width, height, pictures_per_second: pictures } = stream;
    setBadge(this.#state, publisher ? "live" : "publisher away", publisher ? "good" : "warn");
    setText(this.#uptime, publisher ? duration(publisher.seconds) : "");
    const chips = [video && (width ? `${video} ${width}×${height}` : video), audio, video && `${pictures.toFixed(1)} pictures/s`];
    const shown = chips.filter(Boolean);
    if ([...this.#chips.children].map((chip) => chip.textContent).join() !== shown.join()) {
      this.#chips.replaceChildren(...shown.map((chip) => badge(chip)));
    }
    setText(this.#rate, bitrate(stream.kilobits_per_second));
    setText(this.#viewers, count(stream.viewers));
    setText(this.#formats, viewersByFormat(stream) || "viewers");
    setText(this.#publisher, publisher?.address ? `from ${publisher.address}` : "");
    this.#curve.show(stream.rates);
    this.#list.show(stream.mounts);
  }

  remove() {
    this.#list.clear();
  }
}

/** `40 flv, 3 rtmp` */
function viewersByFormat({ mounts, players }) {
  const formats = new Map();
  for (const { module, viewers } of mounts) formats.set(module, (formats.get(module) ?? 0) + viewers);
  if (players) formats.set("rtmp", players);
  return [...formats].filter(([, viewers]) => viewers).map(([format, viewers]) => `${viewers} ${format}`).join(", ");
}

class MountRow {
  #viewers = element("td", { class: "number" });
  #lag = element("td", { class: "number" });
  #module = element("small");
  #play = element("button", { type: "button", class: "small", "aria-expanded": "false", onclick: () => this.#toggle() }, "Play");
  #player = null;
  #mount;
  #screens;
  node = document.createElement("tr");

  constructor(mount, screens) {
    this.#mount = mount;
    this.#screens = screens;
    const url = element("code", { title: mount.url }, new URL(mount.url).pathname);
    this.#play.hidden = !isPlayable(mount);
    this.node.append(element("td", { class: "url" }, url, this.#module), this.#viewers, this.#lag, element("td", { class: "actions" }, this.#play));
  }

  update({ module, generation, transport, carries, live, viewers, lag_ms: lag }) {
    setText(this.#module, `${module} ${generation}${transport === "websocket" ? ", WebSocket" : ""}`);
    setText(this.#viewers, count(viewers));
    setText(this.#lag, live ? `${lag} ms` : "");
    this.node.title = carries ? "" : "The format carries none of the stream's tracks.";
    this.#play.disabled = !carries && !this.#player;
  }

  #toggle() {
    if (this.#player) {
      this.remove();
    } else {
      this.#player = new Player(this.#mount);
      this.#screens.append(this.#player.node);
    }
    const isOpen = this.#player !== null;
    this.#play.setAttribute("aria-expanded", String(isOpen));
    setText(this.#play, isOpen ? "Stop" : "Play");
  }

  remove() {
    this.#player?.stop();
    this.#player?.node.remove();
    this.#player = null;
  }
}
