// Headless Chromium with the player libraries, for play.mjs and watch.mjs. The browser reaches loopback only.

import { createServer } from "node:http";
import { existsSync, readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const flvJs = "node_modules/flv.js/dist/flv.min.js";

// The global of each library, and its files.
export const libraries = {
  mpegts: ["mpegts", "node_modules/mpegts.js/dist/mpegts.js"],
  flv: ["flvjs", flvJs],
  videojs: [
    "videojsFlv", flvJs, "node_modules/video.js/dist/video.min.js",
    "node_modules/videojs-flvjs/dist/videojs-flvjs.min.js", "videojs.js",
  ],
  mse: ["mse", "mse.js"],
};

// Opens a tab on a page of its own origin that has the `html`, and the libraries as `/library.js`; or on another `url`.
// Calls `use` with the tab, and closes the browser.
export async function withTab({ html, names, url }, use) {
  const files = names.flatMap((name) => libraries[name]?.slice(1) ?? []);
  const library = files.map((file) => readFileSync(new URL(file, import.meta.url), "utf8")).join("\n;\n");
  const server = createServer((request, response) => {
    const [type, body] = request.url === "/library.js" ? ["text/javascript", library] : ["text/html", html];
    response.writeHead(200, { "content-type": type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const executablePath = process.env.CHROMIUM
    ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
      "--disable-background-networking", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
      // Tests use self-signed certificates.
      "--ignore-certificate-errors",
    ],
  });
  try {
    const tab = await browser.newPage();
    await use(tab, () => tab.goto(url ?? `http://127.0.0.1:${server.address().port}/`));
  } finally {
    await browser.close();
    server.close();
  }
}
