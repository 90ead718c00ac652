// The page of modules: generations with their faults and memory, and reloads.

import { read, request } from "./api.js";
import { show } from "./dialog.js";
import { KeyedList, badge, element, setBadge, setText, table } from "./elements.js";
import { bytes, count } from "./format.js";

/** Kinds of badges, by the state of a generation and the outcome of a reload. */
const KINDS = { current: "good", fallback: "warn", draining: "warn", "rolled-back": "bad", off: "bad", applied: "good", refused: "bad" };

/** What a dry run says of a reload. */
const DRY = { applied: "would be applied", unchanged: "would change nothing", refused: "would be refused" };

export class ModulesPage {
  #reload = element("button", { type: "button", class: "primary", onclick: () => this.reload() }, "Reload…");
  #hint = element("p", { class: "dim" });
  #last = element("section", { class: "card wide", hidden: true });
  #lastShown = "";
  #cards = element("div", { class: "cards roomy" });
  #list = new KeyedList(this.#cards, (module) => module.name, (module) => new ModuleCard(module));
  #store;
  #faults = element("tbody");
  #faultTable = table(["time", "stream", "module", "fault"], this.#faults);
  #faultList = new KeyedList(this.#faults, ({ number }) => number, faultRow);
  #noFault = element("p", { class: "dim" }, "No module has failed.");
  nodes = [
    element("div", { class: "bar" }, this.#hint, this.#reload), this.#last, this.#cards,
    element("section", { class: "card" }, element("h2", {}, "Faults"), this.#faultTable, this.#noFault),
  ];

  async update(store) {
    this.#store = store;
    const may = store.role === "operate";
    this.#reload.disabled = !may;
    setText(this.#hint, may ? "A reload reads the config and the modules' files again. Nobody is disconnected by it unless its report says so."
      : "Only users who operate can reload.");
    const { modules: generations } = await read("/api/v2/modules?count=1000");
    const modules = Map.groupBy(generations, ({ name }) => name);
    this.#list.show([...modules].map(([name, of]) => ({ name, generations: of })));
    const { reloads } = await read("/api/v2/reloads?count=1");
    this.#showLast(reloads[0]?.report);
    const { faults } = await read("/api/v2/faults?count=20");
    this.#faultList.show(faults);
    this.#faultTable.hidden = !faults.length;
    this.#noFault.hidden = faults.length > 0;
  }

  #showLast(report) {
    this.#last.hidden = !report;
    const shown = JSON.stringify(report);
    if (!report || shown === this.#lastShown) return;
    this.#lastShown = shown;
    this.#last.replaceChildren(element("div", { class: "title" }, element("h2", {}, "Last reload"), outcome(report)), ...changes(report));
  }

  /** Shows what a reload would change, and reloads if that is confirmed. */
  async reload() {
    if (this.#reload.disabled) return;
    const report = await request("POST", "/api/v1/reload?dry_run=1").catch((error) => ({ outcome: "refused", errors: error.message }));
    const what = badge(DRY[report.outcome], KINDS[report.outcome] ?? "");
    const content = [element("p", {}, "Dry run: the reload ", what), ...changes(report)];
    const run = async () => {
      const done = await request("POST", "/api/v1/reload");
      await this.update(this.#store);
      if (done.outcome === "refused") throw new Error(`The reload was refused; nothing has changed.\n${done.errors ?? ""}`);
    };
    const actions = report.outcome === "applied" ? [{ text: "Reload", run }] : [];
    await show("Reload", content, actions, { close: actions.length ? "Cancel" : "Close" });
  }

  close() {}
}

function faultRow({ time, stream, module, generation, fault }) {
  const cell = (head, content) => element("td", { "data-head": head }, content);
  const at = new Date(time).toLocaleString();
  return { node: element("tr", {}, cell("time", at), cell("stream", stream), cell("module", `${module} ${generation}`), cell("fault", fault)) };
}

const outcome = (report) => badge(report.outcome, KINDS[report.outcome] ?? "");

/** Returns elements that show what a report says. */
function changes(report) {
  const items = (report.changes ?? []).map(describe);
  for (const { name, change, generation, step, reason, viewers } of report.modules ?? []) {
    if (change === "unchanged") continue;
    const facts = [generation && `generation ${generation}`, viewers && `${count(viewers)} viewers`, step, reason];
    items.push([`module ${name}: ${change}`, ...facts].filter(Boolean).join(", "));
  }
  const list = items.length ? element("ul", { class: "changes" }, ...items.map((item) => element("li", {}, item))) : null;
  const errors = report.errors ? element("pre", { class: "error" }, report.errors) : null;
  const none = list || errors ? null : element("p", { class: "dim" }, "Nothing changes.");
  return [list, errors, none].filter(Boolean);
}

/** The words for each effect of a change; `who` are those whom it touches. */
const EFFECTS = {
  "at-once": () => "at once",
  "new-clients": (who) => `for new clients${who && `; ${who} keep the old value`}`,
  live: (who) => `at once${who && `, for ${who}`}`,
  "handed-over": (who) => `${who || "nobody"} goes over at the next keyframe`,
  drained: (who) => `${who || "nobody"} stays until they leave`,
  generations: () => "by new generations of the modules",
  "next-start": () => "takes effect at the next start",
};

/** `limits.send_timeout: 30s → 10s; for new clients` */
function describe({ key, change, old, new: now, effect, reason, viewers, publishers }) {
  const touched = [viewers && `${count(viewers)} viewers`, publishers && `${count(publishers)} publishers`].filter(Boolean);
  const values = change === "changed" && (old ?? now) != null ? `${old ?? "not set"} → ${now ?? "not set"}` : change;
  return `${key}: ${values}; ${EFFECTS[effect]?.(touched.join(" and ")) ?? effect}${reason ? `: ${reason}` : ""}`;
}

class ModuleCard {
  #state = badge("");
  #version = element("small");
  #extensions = element("div", { class: "chips" });
  #body = element("tbody");
  #list = new KeyedList(this.#body, ({ generation }) => generation, () => new GenerationRow());
  #reason = element("p", { class: "error", hidden: true });
  node;

  constructor({ name }) {
    const heads = ["generation", "state", { text: "viewers", end: true }, { text: "faults", end: true }, { text: "skips", end: true },
      { text: "lag", end: true }, { text: "memory", end: true }];
    this.node = element("article", { class: "card", "data-module": name },
      element("div", { class: "title" }, element("h2", {}, name), this.#version, this.#state),
      this.#extensions, table(heads, this.#body), this.#reason);
  }

  update({ generations }) {
    const newest = generations.at(-1);
    setBadge(this.#state, newest.state, KINDS[newest.state]);
    setText(this.#version, `${newest.version}, ABI ${newest.abi}`);
    const chips = [...newest.extensions.map((extension) => `.${extension}`), ...newest.transports];
    if (this.#extensions.childElementCount !== chips.length) {
      this.#extensions.replaceChildren(...chips.map((chip) => badge(chip)));
    }
    this.#list.show(generations.toReversed());
    const reasons = generations.map(({ generation, reason }) => reason && `Generation ${generation}: ${reason}`).filter(Boolean);
    setText(this.#reason, reasons.join(" "));
    this.#reason.hidden = !reasons.length;
  }
}

class GenerationRow {
  #cells = ["generation", "state", "viewers", "faults", "skips", "lag", "memory"].map((head, at) => (
    element("td", { "data-head": head, class: at > 1 ? "end" : null })));
  node = element("tr", {}, ...this.#cells);

  update({ generation, state, viewers, faults, skips, lag_skips: lagSkips, lag_ms: lag, retained_bytes: memory, file, since }) {
    const values = [generation, state, count(viewers), count(faults), count(skips + lagSkips), `${lag} ms`, bytes(memory)];
    values.forEach((value, at) => setText(this.#cells[at], String(value)));
    this.node.title = `${file}, since ${since}`;
  }
}
