// Plays one live URL in headless Chromium and prints, as JSON, what the video element did.
//
//   node play.mjs mpegts|flv|mpegts-file|flv-file|videojs|mse|audio|page URL av|v|a MILLISECONDS
//
// Exits 1 with a reason when nothing plays within the time. The page comes from an origin of its own, so the URL is
// fetched across origins, as in real pages; `audio` is an audio element with the URL as its source, without a library;
// it is played for ten seconds, the others for one and a half. `page` opens the URL itself, watches the first element on
// it, and requires all of them to play. The player must detect the tracks from the stream.

import { libraries, withTab } from "./chromium.mjs";

const [name, url, tracks, limit] = process.argv.slice(2);
// A recording is played by the same library with `isLive: false`.
const [player, kind] = name.split("-");
const isLive = kind !== "file";
const [global] = libraries[player] ?? [];
const html = player === "audio"
  ? `<!doctype html><audio muted></audio>`
  : `<!doctype html><video muted playsinline></video><script src="/library.js"></script>`;

await withTab({ html, names: [player], url: player === "page" ? url : undefined }, async (tab, open) => {
  const thrown = [];
  tab.on("pageerror", (error) => thrown.push(`page: ${error.message}`));
  await open();
  await tab.evaluate(start, { player, global, url, isLive });
  const seconds = player === "audio" ? 10 : 1.5;
  const outcome = await tab.evaluate(watch, { tracks, seconds, limit: Number(limit) });
  outcome.errors.push(...thrown);
  console.log(JSON.stringify(outcome));
  if (outcome.failed) {
    console.error(`${player} ${url}: ${JSON.stringify(outcome)}`);
    process.exitCode = 1;
  }
});

// In the page: attaches the player and keeps every error.
function start({ player, global, url, isLive }) {
  const video = document.querySelector("video, audio");
  window.errors = [];
  window.waits = 0;
  // Before the start, the element waits for data anyway.
  video.addEventListener("waiting", () => (window.waits += video.currentTime > 0 ? 1 : 0));
  video.addEventListener("error", () => window.errors.push(`element: ${video.error?.message}`));
  if (player === "audio") {
    video.src = url;
    video.play().catch((error) => window.errors.push(`play: ${error}`));
  }
  if (!global) return;
  const library = window[global];
  const type = new URL(url).pathname.endsWith(".ts") ? "mpegts" : "flv";
  const source = { type, isLive, cors: true, url };
  const instance = library.createPlayer(source, { enableStashBuffer: false, lazyLoad: false });
  instance.on(library.Events.ERROR, (...what) => window.errors.push(`player: ${JSON.stringify(what)}`));
  instance.attachMediaElement(video);
  instance.load();
  Promise.resolve(instance.play()).catch((error) => window.errors.push(`play: ${error}`));
}

// In the page: waits for a first picture, then for some seconds of moving ones.
async function watch({ tracks, seconds, limit }) {
  const video = document.querySelector("video, audio");
  const began = performance.now();
  const deadline = began + limit;
  const state = () => ({
    time: video.currentTime,
    frames: video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0,
    audioBytes: video.webkitAudioDecodedByteCount,
  });
  const shows = (from, now) =>
    (tracks === "a" || now.frames > from.frames + 20) && (tracks === "v" || now.audioBytes > from.audioBytes);
  const until = async (fact) => {
    while (!fact() && window.errors.length === 0) {
      if (performance.now() > deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return window.errors.length === 0;
  };
  let first = state();
  let done = await until(() => state().time > 0 && (tracks === "a" || state().frames > 0));
  const startedAfter = performance.now() - began;
  if (done) {
    first = state();
    done = await until(() => state().time > first.time + seconds && shows(first, state()));
  }
  const all = [...document.querySelectorAll("video, audio")];
  done &&= await until(() => all.every((media) => media.currentTime > 0));
  const failures = (window.players ?? []).flatMap((entry) => entry.errors);
  const last = state();
  return {
    advanced: last.time - first.time,
    frames: last.frames - first.frames,
    audioBytes: last.audioBytes - first.audioBytes,
    startedAfter,
    waits: window.waits,
    errors: [...window.errors, ...failures],
    failed: !done,
  };
}
