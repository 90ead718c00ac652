// The console: chooses the page by the URL's fragment, and shows it what the API says.
//
// While the page is visible it follows the host's events: each second the rates of streams, and changes, after which the lists that are
// shown are fetched at once. What no event tells, such as lag and uptime, is fetched every two seconds.

import { ApiError, logIn, logOut, read, whenDenied } from "./api.js";
import { History } from "./curve.js";
import { isOpen, show } from "./dialog.js";
import { element, setText } from "./elements.js";
import { Feed } from "./feed.js";
import { HostPage } from "./host.js";
import { ModulesPage } from "./modules.js";
import { SessionsPage } from "./sessions.js";
import { StreamsPage } from "./streams.js";

const PAGES = { streams: StreamsPage, sessions: SessionsPage, modules: ModulesPage, host: HostPage };
/** Time between two requests for what is shown, in milliseconds. */
const INTERVAL = 2000;
/** Time in which the events that come together lead to one request, in milliseconds. */
const BURST = 50;

const view = document.querySelector("#view");
const connection = document.querySelector("#connection");
const user = document.querySelector("#user");
/** The facts that pages share: the host, who asks, the streams, their mounts and rates. */
const store = { role: "none", streams: [], mounts: [], listeners: [], rates: new History(), isFed: false };
const feed = new Feed(onChange, onNumbers);
let page;
let timer;
/** The host and the user may have changed. */
let isStale = true;

function open() {
  const [name, parameters] = location.hash.slice(1).split("?");
  const known = PAGES[name] ? name : "streams";
  page?.close();
  page = new PAGES[known](new URLSearchParams(parameters));
  view.replaceChildren(...page.nodes);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${known}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${known[0].toUpperCase()}${known.slice(1)} · remuxd`;
  refresh();
}

/** Asks the API, shows what it says, and does so again after a while. */
async function refresh() {
  clearTimeout(timer);
  const shown = page;
  try {
    store.isFed = feed.isOpen;
    if (isStale || !store.isFed) {
      isStale = false;
      const [host, session] = await Promise.all([read("/api/v2/host"), read("/api/v2/session")]);
      Object.assign(store, host, session, { started: Date.now() - host.uptime_seconds * 1000 });
    }
    if (shown === page) await page.update(store);
    setState("live", document.hidden ? "paused" : "live");
    if (!document.hidden) feed.open();
  } catch (error) {
    isStale = true;
    if (!(error instanceof ApiError && error.status === 401)) setState("lost", error instanceof ApiError ? error.message : "no answer");
  }
  setText(document.querySelector("#version"), store.version ?? "");
  // Credentials in `Authorization` have no end, and no login.
  user.hidden = store.seconds == null;
  setText(user, `Log out ${store.user ?? ""}`);
  if (shown === page && !isLoggedOut && !document.hidden) schedule(INTERVAL);
}

function schedule(delay) {
  clearTimeout(timer);
  timer = setTimeout(refresh, delay);
}

function onChange(name) {
  if (name === "hello" || name === "reload") isStale = true;
  schedule(BURST);
}

function onNumbers({ streams }) {
  store.rates.add(streams.map(({ stream, kilobits_per_second: rate }) => [stream, rate]));
  const numbers = new Map(streams.map(({ stream, ...values }) => [stream, values]));
  store.streams = store.streams.map((stream) => ({ ...stream, ...numbers.get(stream.name) }));
  page.redraw?.();
}

/** Follows the host only while somebody who may looks at the page. */
function follow() {
  if (!isLoggedOut && !document.hidden) return refresh();
  clearTimeout(timer);
  feed.close();
}

function setState(state, words) {
  connection.dataset.state = state;
  setText(connection, words);
}

let isLoggedOut = false;

/** Asks for credentials until they are right. */
async function askCredentials() {
  if (isLoggedOut) return;
  isLoggedOut = true;
  follow();
  setState("lost", "not logged in");
  const name = element("input", { name: "user", autocomplete: "username", required: true, autofocus: true });
  const password = element("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const content = [element("label", {}, "User", name), element("label", {}, "Password", password)];
  const run = async () => {
    await logIn(name.value, password.value).catch((error) => {
      throw error.status === 401 ? new Error("This user or password is wrong.") : error;
    });
    isLoggedOut = false;
  };
  while (isLoggedOut) await show("Log in", content, [{ text: "Log in", run }], { close: null });
  isStale = true;
  follow();
}

const HELP = [["1", "streams"], ["2", "sessions"], ["3", "modules"], ["4", "host"], ["/", "filter"], ["r", "reload: dry run first"],
  ["?", "these keys"]];

function help() {
  const keys = HELP.flatMap(([key, what]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)]);
  show("Keys", [element("dl", { class: "keys" }, ...keys)], [], { close: "Close" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isOpen() || event.target.matches("input, select, textarea")) return;
  const name = Object.keys(PAGES)[Number(event.key) - 1];
  if (name) location.hash = name;
  else if (event.key === "/") page.focusFilter?.();
  else if (event.key === "?") help();
  else if (event.key === "r" && page.reload) page.reload();
  else if (event.key === "r") location.hash = "modules";
  else return;
  event.preventDefault();
});
user.addEventListener("click", async () => {
  await logOut();
  askCredentials();
});
whenDenied(askCredentials);
document.addEventListener("visibilitychange", follow);
window.addEventListener("hashchange", open);
open();
