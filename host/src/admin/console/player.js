// Plays a mount in the page.

import { element, setText } from "./elements.js";

/** Types of mpegts.js, by the extension of a mount's URL. */
const TYPES = { flv: "flv", ts: "mpegts" };

/** Returns the type with which mpegts.js plays a mount; undefined if it cannot. */
const mpegtsType = (mount) => TYPES[/\.(\w+)$/.exec(new URL(mount.url).pathname)?.[1]];

const isAudio = (mount) => mount.transport === "http" && mount.content_type.startsWith("audio/");

/** Whether a browser can play the mount. */
export const isPlayable = (mount) => isAudio(mount) || mpegtsType(mount) !== undefined;

let library;

/** Loads mpegts.js when it is first needed. */
function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    const failed = () => reject(new Error("mpegts.js cannot be loaded"));
    document.head.append(element("script", { src: "mpegts.js", onload: () => resolve(window.mpegts), onerror: failed }));
  });
  return library;
}

/** A running player. `node` is its element; `stop` ends it. Muted at first, since browsers start nothing else on their own. */
export class Player {
  #player = null;
  #timer;
  #failure = "";
  #isStopped = false;
  #media;
  #state = element("output");
  node;

  constructor(mount) {
    this.#media = element(isAudio(mount) ? "audio" : "video", { controls: true, playsinline: true, autoplay: true });
    this.#media.muted = true;
    this.#media.addEventListener("error", () => this.#fail(this.#media.error?.message || "the browser cannot play it"));
    const name = element("code", {}, new URL(mount.url).pathname);
    this.node = element("figure", { class: "player" }, this.#media, element("figcaption", {}, name, this.#state));
    this.#start(mount).catch((error) => this.#fail(error.message));
    this.#timer = setInterval(() => this.#show(), 500);
  }

  async #start(mount) {
    if (isAudio(mount)) {
      this.#media.src = mount.url;
    } else {
      const mpegts = await loadLibrary();
      if (this.#isStopped) return;
      if (!mpegts.isSupported()) throw new Error("this browser has no Media Source Extensions");
      this.#player = mpegts.createPlayer({ type: mpegtsType(mount), isLive: true, url: mount.url },
        { liveBufferLatencyChasing: true, enableStashBuffer: false });
      this.#player.on(mpegts.Events.ERROR, (kind, detail, info) => {
        this.#fail(info?.code > 0 ? `refused with status ${info.code}` : `${detail}: ${info?.msg ?? kind}`);
      });
      this.#player.attachMediaElement(this.#media);
      this.#player.load();
    }
    await this.#media.play();
  }

  #fail(reason) {
    if (this.#isStopped) return;
    this.#failure = reason;
    this.#show();
  }

  #show() {
    const { buffered, currentTime, videoWidth, videoHeight } = this.#media;
    const ahead = buffered.length ? buffered.end(buffered.length - 1) - currentTime : 0;
    const size = videoWidth ? `${videoWidth}×${videoHeight}, ` : "";
    this.#state.className = this.#failure && "failed";
    setText(this.#state, this.#failure || `${size}${currentTime.toFixed(1)} s played, ${ahead.toFixed(1)} s buffered`);
  }

  stop() {
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#player?.destroy();
    this.#media.removeAttribute("src");
    this.#media.load();
  }
}
