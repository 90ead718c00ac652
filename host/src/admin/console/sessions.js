// The page of sessions: publishers, players and viewers, page by page, with kick and ban.

import { query, read, request } from "./api.js";
import { show } from "./dialog.js";
import { KeyedList, element, setText, table } from "./elements.js";
import { bytes, count, duration } from "./format.js";

const PAGE = 100;
/** Seconds of a ban. */
const BANS = [["10 minutes", 600], ["1 hour", 3600], ["1 day", 86400]];

export class SessionsPage {
  #filter = element("input", { type: "search", placeholder: "APP/STREAM or address", "aria-label": "Filter sessions" });
  #total = element("p", { class: "totals" });
  #body = element("tbody");
  #note = element("p", { class: "empty", hidden: true });
  #back = element("button", { type: "button", onclick: () => this.#turn(-PAGE) }, "Previous page");
  #on = element("button", { type: "button", onclick: () => this.#turn(PAGE) }, "Next page");
  #start = 0;
  #sessions = [];
  #rates = new Map();
  #store;
  #list = new KeyedList(this.#body, (session) => session.id, (session) => new SessionRow(session, this));
  nodes;

  constructor(parameters) {
    this.#filter.value = parameters.get("stream") ?? "";
    this.#filter.addEventListener("input", () => this.#show());
    const heads = ["session", "stream", "as", "address", { text: "age", end: true }, { text: "media", end: true },
      { text: "rate", end: true }, "client", ""];
    const sessions = table(heads, this.#body);
    this.nodes = [
      element("div", { class: "bar" }, this.#total, this.#filter),
      element("div", { class: "card sessions" }, sessions, this.#note),
      element("div", { class: "bar" }, element("span"), element("div", { class: "chips" }, this.#back, this.#on)),
    ];
  }

  focusFilter() {
    this.#filter.focus();
  }

  get mayOperate() {
    return this.#store?.role === "operate";
  }

  async update(store) {
    this.#store = store;
    if (store.role === "none") {
      this.#explain("Only users of the API see sessions: add one to the config, in [[http_api.user]].");
      return;
    }
    const start = this.#start;
    const { total, sessions } = await read(`/api/v2/sessions${query({ start, count: PAGE })}`);
    if (start !== this.#start) return;
    this.#sessions = sessions;
    this.#measure(sessions);
    const last = Math.min(start + sessions.length, total);
    setText(this.#total, total > PAGE ? `${count(start + 1)} to ${count(last)} of ${count(total)}` : `${count(total)} in all`);
    this.#back.hidden = this.#on.hidden = total <= PAGE;
    this.#back.disabled = start === 0;
    this.#on.disabled = start + PAGE >= total;
    this.#show();
  }

  #turn(by) {
    this.#start = Math.max(0, this.#start + by);
    this.update(this.#store);
  }

  #measure(sessions) {
    const now = performance.now();
    const before = this.#rates;
    this.#rates = new Map(sessions.map(({ id, bytes: sent }) => {
      const last = before.get(id);
      const rate = last && (sent - last.sent) * 8 / (now - last.now);
      return [id, { now, sent, rate: rate ?? null }];
    }));
  }

  #show() {
    const words = this.#filter.value;
    const matches = ({ stream, address, id }) => [stream, address, id].some((value) => String(value).includes(words));
    const shown = this.#sessions.filter(matches);
    this.#list.show(shown.map((session) => ({ ...session, rate: this.#rates.get(session.id)?.rate })));
    this.#explain(shown.length ? "" : this.#sessions.length ? "No session on this page matches." : "Nobody publishes or watches.");
  }

  #explain(reason) {
    setText(this.#note, reason);
    this.#note.hidden = !reason;
  }

  /** Asks whether a session shall end, and for how long its address shall be refused. */
  end({ id, action, stream, address }) {
    const ban = element("select", { name: "ban" }, element("option", { value: "" }, "do not ban its address"),
      ...BANS.map(([words, seconds]) => element("option", { value: seconds }, `ban ${address} for ${words}`)));
    const content = [
      element("p", {}, `${action === "publish" ? "The publisher" : "The viewer"} of ${stream} from ${address}.`),
      element("label", {}, "Afterwards", ban),
    ];
    const run = async () => {
      if (ban.value) await request("POST", `/api/v2/bans${query({ kind: "address", value: address, seconds: ban.value })}`);
      else await request("DELETE", `/api/v2/sessions/${id}`);
      await this.update(this.#store);
    };
    show("End this session?", content, [{ text: "End it", class: "danger", run }]);
  }

  close() {}
}

class SessionRow {
  #age = cell("age", { class: "end" });
  #bytes = cell("media", { class: "end" });
  #rate = cell("rate", { class: "end" });
  #kick;
  #page;
  node;

  constructor(session, page) {
    this.#page = page;
    this.#kick = element("button", { type: "button", class: "small danger", onclick: () => page.end(session) }, "Kick");
    const { id, stream, action, protocol, address, user_agent: agent, page_url: from, subject } = session;
    const client = [subject, agent, from].filter(Boolean).join(" · ");
    this.node = element("tr", { "data-session": id },
      cell("session", {}, element("code", {}, id)),
      cell("stream", { class: "stream" }, stream),
      cell("as", {}, action === "publish" ? `publisher, ${protocol}` : protocol),
      cell("address", {}, address),
      this.#age, this.#bytes, this.#rate,
      cell("client", { class: "agent", title: client }, client),
      element("td", { class: "actions" }, this.#kick));
  }

  update(session) {
    setText(this.#age, duration(session.seconds));
    setText(this.#bytes, bytes(session.bytes));
    setText(this.#rate, session.rate == null ? "" : `${count(Math.round(session.rate))} kbit/s`);
    this.#kick.hidden = !this.#page.mayOperate;
  }
}

const cell = (head, properties, ...children) => element("td", { "data-head": head, ...properties }, ...children);
