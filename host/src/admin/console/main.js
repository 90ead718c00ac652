// The console: chooses the page by the URL's fragment, and shows it what the API says each second.

import { ApiError, logIn, logOut, read, whenDenied } from "./api.js";
import { History } from "./curve.js";
import { isOpen, show } from "./dialog.js";
import { element, setText } from "./elements.js";
import { HostPage } from "./host.js";
import { ModulesPage } from "./modules.js";
import { SessionsPage } from "./sessions.js";
import { StreamsPage } from "./streams.js";

const PAGES = { streams: StreamsPage, sessions: SessionsPage, modules: ModulesPage, host: HostPage };
const INTERVAL = 1000;
/** The page shows at most this many streams and mounts. */
const SHOWN = "?count=1000";

const view = document.querySelector("#view");
const connection = document.querySelector("#connection");
const user = document.querySelector("#user");
/** The facts that pages share: the host, who asks, the streams, their mounts and rates. */
const store = { role: "none", streams: [], mounts: [], listeners: [], rates: new History() };
let page;
let timer;

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
    const [host, session, { streams }, { mounts }] = await Promise.all([
      read("/api/v2/host"), read("/api/v2/session"), read(`/api/v2/streams${SHOWN}`), read(`/api/v2/mounts${SHOWN}`),
    ]);
    Object.assign(store, host, session, { streams, mounts });
    store.rates.add(streams.map((stream) => [stream.name, stream.kilobits_per_second]));
    if (shown === page) await page.update(store);
    setState("live", document.hidden ? "paused" : "live");
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) setState("lost", error instanceof ApiError ? error.message : "no answer");
  }
  setText(document.querySelector("#version"), store.version ?? "");
  // Credentials in `Authorization` have no end, and no login.
  user.hidden = store.seconds == null;
  setText(user, `Log out ${store.user ?? ""}`);
  if (shown === page && !isLoggedOut && !document.hidden) timer = setTimeout(refresh, INTERVAL);
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
  refresh();
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
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
window.addEventListener("hashchange", open);
open();
