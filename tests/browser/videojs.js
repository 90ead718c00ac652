// video.js with the technology of videojs-flvjs, which hands the URL to flv.js, as pages of SRS users have it.
//
// `window.videojsFlv.createPlayer` has the shape of the other players' libraries, as far as play.mjs uses it.

window.videojsFlv = {
  Events: { ERROR: "error" },

  createPlayer({ url }) {
    const onError = [];
    let player;
    return {
      on: (_, listener) => onError.push(listener),
      attachMediaElement: (element) => {
        element.className = "video-js";
        const flvjs = { mediaDataSource: { isLive: true, cors: true }, config: { enableStashBuffer: false } };
        player = window.videojs(element, { techOrder: ["flvjs"], autoplay: true, muted: true, flvjs });
        player.on("error", () => onError.forEach((listener) => listener(player.error()?.message)));
      },
      load: () => player.src({ type: "video/x-flv", src: url }),
      play: () => player.play(),
    };
  },
};
