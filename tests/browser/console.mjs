// Operates the host by the console's own buttons in headless Chromium, and prints as JSON what the console showed.
//
//   node console.mjs URL USER PASSWORD STREAM ADDRESS [SCREENSHOTS]
//
// STREAM has a publisher, a mount that mpegts.js plays, and a viewer from ADDRESS; the config file has a change that a reload applies.
// With SCREENSHOTS, a folder, each page is drawn there in three sizes, light and dark. Exits 1 with a reason when something that
// must appear does not.

import { withTab } from "./chromium.mjs";

const [url, user, password, stream, address, screenshots] = process.argv.slice(2);
const SIZES = { phone: [390, 844], tablet: [820, 1180], desktop: [1440, 900] };
const PAGES = ["streams", "sessions", "modules", "host"];
const SOON = 30_000;

await withTab({ html: "", names: [], url }, async (tab, open) => {
  const facts = { errors: [], foreign: [], subscriptions: 0 };
  let requests = 0;
  tab.setDefaultTimeout(SOON);
  tab.on("pageerror", (error) => facts.errors.push(error.message));
  tab.on("console", (message) => {
    // The browser itself reports each response that is not 200; those before the login are.
    const isExpected = /status of 40[14]/.test(message.text());
    if (message.type() === "error" && !isExpected) facts.errors.push(message.text());
  });
  tab.on("request", (request) => {
    const { hostname, protocol, pathname } = new URL(request.url());
    requests += pathname.startsWith("/api/");
    facts.subscriptions += pathname === "/api/v2/events";
    if (protocol.startsWith("http") && hostname !== new URL(url).hostname) facts.foreign.push(request.url());
  });
  // Returns the number of requests to the API while the curve of the stream gets this many samples, one each second.
  const requestsIn = async (samples) => {
    const has = (least) => tab.waitForFunction(([name, points]) => (
      document.querySelector(`[data-stream="${name}"] .line`).getAttribute("d").split("L").length >= points
    ), [stream, least]);
    await has(4);
    const before = requests;
    await has(4 + samples);
    return requests - before;
  };
  const dialog = tab.locator("dialog[open]");
  const card = tab.locator(`[data-stream="${stream}"]`);

  await open();
  await dialog.locator("input[name=user]").fill(user);
  await dialog.locator("input[name=password]").fill(`${password}?`);
  await tab.keyboard.press("Enter");
  await dialog.getByText("This user or password is wrong.").waitFor();
  await dialog.locator("input[name=password]").fill(password);
  await tab.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });

  await card.getByText("live", { exact: true }).waitFor();
  facts.requests = await requestsIn(6);
  facts.chips = await card.locator(".chips .badge").allTextContents();
  facts.mounts = await card.locator("tbody tr").allTextContents();
  await card.getByRole("button", { name: "Play" }).first().click();
  await tab.waitForFunction(() => document.querySelector("video")?.currentTime > 1, null, { timeout: SOON });
  facts.played = await tab.evaluate(() => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames);
  await draw(tab, "player");
  await card.getByRole("button", { name: "Stop" }).click();
  await tab.locator("video").waitFor({ state: "detached" });

  await tab.keyboard.press("2");
  const viewer = tab.locator("tr", { hasText: address });
  facts.viewer = await viewer.innerText();
  await viewer.getByRole("button", { name: "Kick" }).click();
  await dialog.locator("select").selectOption("600");
  await draw(tab, "kick");
  await dialog.getByRole("button", { name: "End it" }).click();
  await viewer.waitFor({ state: "detached" });

  await tab.keyboard.press("4");
  const ban = tab.locator("tr[data-ban]");
  facts.ban = await ban.innerText();
  await ban.getByRole("button", { name: "Lift" }).click();
  await tab.getByText("Nobody is banned.").waitFor();
  facts.meters = await tab.locator(".meter dt").allTextContents();
  facts.certificates = await tab.locator("tr", { hasText: / days$/ }).allTextContents();

  await tab.keyboard.press("3");
  await tab.locator("[data-module]").first().waitFor();
  facts.modules = await tab.locator("[data-module] h2").allTextContents();
  await tab.keyboard.press("r");
  await dialog.getByText("Dry run").waitFor();
  facts.dryRun = await dialog.innerText();
  await draw(tab, "reload");
  await dialog.getByRole("button", { name: "Reload" }).click();
  await tab.getByRole("heading", { name: "Last reload" }).waitFor();
  facts.reload = await tab.locator("section", { hasText: "Last reload" }).innerText();

  await tab.keyboard.press("?");
  await dialog.getByText("these keys").waitFor();
  await tab.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });

  facts.overflows = [];
  for (const [name, [width, height]] of Object.entries(SIZES)) {
    await tab.setViewportSize({ width, height });
    for (const page of PAGES) {
      await tab.locator(`nav a[href="#${page}"]`).click();
      await tab.locator("#view > *").first().waitFor();
      const isWide = await tab.evaluate(() => (
        [document.documentElement, ...document.querySelectorAll(".card")].some((one) => one.scrollWidth > one.clientWidth)
      ));
      if (isWide) facts.overflows.push(`${page} on a ${name}`);
      for (const colorScheme of screenshots ? ["light", "dark"] : []) {
        await tab.emulateMedia({ colorScheme });
        await tab.screenshot({ path: `${screenshots}/${page}-${name}-${colorScheme}.png` });
      }
    }
  }

  await tab.getByRole("button", { name: "Log out" }).click();
  await dialog.getByRole("button", { name: "Log in" }).waitFor();
  console.log(JSON.stringify(facts));
});

async function draw(tab, name) {
  if (screenshots) await tab.screenshot({ path: `${screenshots}/${name}.png` });
}
