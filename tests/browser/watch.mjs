// Plays several live URLs in one page of headless Chromium while their stream changes.
//
//   node watch.mjs PLAYERS MILLISECONDS
//
// PLAYERS is a JSON list of {player: "mpegts" or "flv", url, before, after, width}; `before` and `after` are the tracks that
// must advance: `av`, `v` or `a`, and `after` is empty for a stream that the browser cannot decode; `width` is that of the
// picture after the change. As applications do,
// the page starts a new player when a response ends or the player reports an error.
//
// Prints `playing` once all play. A line on standard input announces that the stream has changed: waits until each plays
// what was not buffered then, and prints a JSON list of what each did. Exits 1 with the same list if one does not within
// the time.

import { createInterface } from "node:readline";
import { libraries, withTab } from "./chromium.mjs";

const players = JSON.parse(process.argv[2]);
const limit = Number(process.argv[3]);
const names = [...new Set(players.map(({ player }) => player))];
const html = `<!doctype html><script src="/library.js"></script>`;
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

await withTab({ html, names }, async (tab, open) => {
  await open();
  await tab.evaluate(start, { players, globals: Object.fromEntries(names.map((name) => [name, libraries[name][0]])) });
  const phase = async (name) => {
    const outcomes = await tab.evaluate(watch, { name, limit });
    const failed = outcomes.some((outcome) => !outcome.done);
    process.exitCode = failed ? 1 : 0;
    if (failed || name === "after") console.log(JSON.stringify(outcomes));
    else console.log("playing");
    return !failed;
  };
  if (!await phase("before")) return;
  await input.next();
  await tab.evaluate(mark);
  await phase("after");
});
process.stdin.destroy();

// In the page: creates the players.
function start({ players, globals }) {
  window.watched = players.map((wanted) => {
    const watched = { ...wanted, errors: [], starts: 0 };
    const library = window[globals[wanted.player]];
    // A new element for each player, so that its counters start at zero.
    watched.start = () => {
      watched.starts += 1;
      watched.from = { time: 0, frames: 0, audioBytes: 0 };
      watched.video = document.createElement("video");
      watched.video.muted = true;
      document.body.append(watched.video);
      const type = new URL(wanted.url).pathname.endsWith(".ts") ? "mpegts" : "flv";
      const source = { type, isLive: true, cors: true, url: wanted.url };
      const instance = library.createPlayer(source, { enableStashBuffer: false, lazyLoad: false });
      let over = false;
      const again = () => {
        if (over) return;
        over = true;
        setTimeout(() => {
          instance.destroy();
          watched.video.remove();
          watched.start();
        }, 500);
      };
      instance.on(library.Events.LOADING_COMPLETE, again);
      instance.on(library.Events.ERROR, (...what) => {
        watched.errors.push(JSON.stringify(what));
        again();
      });
      instance.attachMediaElement(watched.video);
      instance.load();
      Promise.resolve(instance.play()).catch(() => {});
    };
    watched.state = () => ({
      time: watched.video.currentTime,
      frames: watched.video.getVideoPlaybackQuality().totalVideoFrames,
      audioBytes: watched.video.webkitAudioDecodedByteCount,
    });
    watched.start();
    return watched;
  });
}

// In the page: from now on only what was not buffered counts.
function mark() {
  for (const watched of window.watched) {
    const { buffered } = watched.video;
    const state = watched.state();
    const time = buffered.length ? buffered.end(buffered.length - 1) : state.time;
    watched.from = { ...state, time };
    watched.errors = [];
    watched.starts = 0;
  }
}

// In the page: waits until each player has advanced by a second and a half.
async function watch({ name, limit }) {
  const deadline = performance.now() + limit;
  const isDone = (watched) => {
    const tracks = watched[name];
    if (tracks === "") return watched.errors.length > 0;
    const [from, now] = [watched.from, watched.state()];
    const video = !tracks.includes("v") || now.frames > from.frames + 20;
    const audio = !tracks.includes("a") || now.audioBytes > from.audioBytes;
    // Pictures from before the change may still be on their way.
    const shown = name === "before" || !tracks.includes("v") || watched.video.videoWidth === watched.width;
    return now.time > from.time + 1.5 && video && audio && shown;
  };
  while (!window.watched.every(isDone) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return window.watched.map((watched) => ({
    player: watched.player,
    url: watched.url,
    done: isDone(watched),
    starts: watched.starts,
    width: watched.video.videoWidth,
    from: watched.from,
    now: watched.state(),
    errors: watched.errors,
  }));
}
