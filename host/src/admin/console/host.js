// The page of the host: what it uses of its limits, listeners, certificates, bans.

import { query, read, request } from "./api.js";
import { KeyedList, badge, element, setBadge, setText, table } from "./elements.js";
import { bytes, count, duration } from "./format.js";

/** Days before the end of a certificate from which on it is shown as a warning. */
const SOON = 14;

export class HostPage {
  #facts = element("p", { class: "totals" });
  #meters = element("dl", { class: "meters" });
  #meterList = new KeyedList(this.#meters, ({ name }) => name, () => new Meter());
  #listeners = element("tbody");
  #listenerList = new KeyedList(this.#listeners, ({ kind, address }) => `${kind} ${address}`, listenerRow);
  #certificates = element("tbody");
  #certificateTable = table(["of", "names", { text: "left", end: true }], this.#certificates);
  #certificateList = new KeyedList(this.#certificates, ({ listener, vhost }) => `${listener} ${vhost}`, certificateRow);
  #noCertificate = element("p", { class: "dim" }, "No listener uses TLS.");
  #bans = element("tbody");
  #banTable = table(["what", "value", { text: "left", end: true }, ""], this.#bans);
  #banList = new KeyedList(this.#bans, ({ kind, value }) => `${kind} ${value}`, (ban) => new BanRow(ban, this));
  #noBan = element("p", { class: "dim" }, "Nobody is banned.");
  #store;
  nodes = [
    element("div", { class: "bar" }, this.#facts),
    element("div", { class: "cards" },
      section("Limits", this.#meters),
      section("Listeners", table(["protocol", "address"], this.#listeners)),
      section("Certificates", this.#certificateTable, this.#noCertificate),
      section("Bans", this.#banTable, this.#noBan)),
  ];

  get mayOperate() {
    return this.#store?.role === "operate";
  }

  async update(store) {
    this.#store = store;
    this.#facts.replaceChildren(...[["version", store.version], ["up", duration((Date.now() - store.started) / 1000)], ["process", store.pid]]
      .map(([name, value]) => element("span", {}, `${name} `, element("b", {}, String(value)))));
    this.#listenerList.show(store.listeners);
    const [limits, { certificates }, { bans }] = await Promise.all([
      read("/api/v2/limits"), read("/api/v2/certificates"), store.role === "none" ? { bans: [] } : read("/api/v2/bans"),
    ]);
    this.#meterList.show(meters(limits));
    this.#certificateList.show(certificates);
    this.#certificateTable.hidden = !certificates.length;
    this.#noCertificate.hidden = certificates.length > 0;
    this.#banList.show(bans);
    this.#banTable.hidden = !bans.length;
    this.#noBan.hidden = bans.length > 0;
    setText(this.#noBan, store.role === "none" ? "Only users of the API see bans." : "Nobody is banned.");
  }

  async lift({ kind, value }) {
    await request("DELETE", `/api/v2/bans${query({ kind, value })}`);
    await this.update(this.#store);
  }

  close() {}
}

const section = (title, ...children) => element("section", { class: "card" }, element("h2", {}, title), ...children);

/** Returns what is used of each limit; a limit of 0 is none. */
function meters({ connections, descriptors, memory, viewers, publishers, waiting, hung_threads: hung }) {
  const used = memory.connections + memory.messages + memory.output;
  return [
    { name: "Connections", ...connections, show: count },
    { name: "Viewers", ...viewers, show: count },
    { name: "Publishers", ...publishers, show: count },
    { name: "Memory for peers", used, limit: memory.limit, show: bytes },
    { name: "Open files", ...descriptors, show: count },
    { name: "Waiting for a publisher", used: waiting, limit: 0, show: count },
    { name: "Threads that hang in a module", used: hung, limit: 0, show: count, isBad: hung > 0 },
  ];
}

class Meter {
  #name = element("b");
  #value = element("span");
  #bar = element("i");
  #track = element("dd", {}, this.#bar);
  node = element("div", { class: "meter" }, element("dt", {}, this.#name, this.#value), this.#track);

  update({ name, used, limit, show, isBad }) {
    setText(this.#name, name);
    setText(this.#value, limit ? `${show(used)} of ${show(limit)}` : show(used));
    const share = limit ? used / limit : 0;
    this.#bar.className = isBad || share > 0.9 ? "bad" : share > 0.7 ? "warn" : "";
    this.#bar.style.width = `${Math.min(share, 1) * 100}%`;
    this.#track.hidden = !limit;
  }
}

function listenerRow({ kind, address }) {
  return { node: element("tr", {}, element("td", { "data-head": "protocol" }, kind),
    element("td", { "data-head": "address" }, element("code", {}, address))) };
}

function certificateRow({ listener, vhost }) {
  const names = element("td", { "data-head": "names" });
  const left = badge("");
  const update = ({ names: own, not_after: end, seconds_left: seconds }) => {
    const days = Math.floor(seconds / 86400);
    setText(names, own.join(", "));
    if (seconds == null) setBadge(left, "unknown", "warn");
    else setBadge(left, days < 0 ? "expired" : `${count(days)} days`, days < 0 ? "bad" : days < SOON ? "warn" : "good");
    left.title = end ?? "";
  };
  const node = element("tr", {}, element("td", { "data-head": "of" }, vhost || listener), names,
    element("td", { "data-head": "left", class: "end" }, left));
  return { node, update };
}

class BanRow {
  #left = element("td", { "data-head": "left", class: "end" });
  #lift;
  #page;
  node;

  constructor(ban, page) {
    this.#page = page;
    this.#lift = element("button", { type: "button", class: "small", onclick: () => page.lift(ban) }, "Lift");
    this.node = element("tr", { "data-ban": ban.value },
      element("td", { "data-head": "what" }, ban.kind), element("td", { "data-head": "value" }, element("code", {}, ban.value)),
      this.#left, element("td", { class: "actions" }, this.#lift));
  }

  update({ seconds }) {
    setText(this.#left, duration(seconds));
    this.#lift.hidden = !this.#page.mayOperate;
  }
}
