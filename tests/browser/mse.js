// A page's own player for fragmented MP4 over HTTP or WebSocket: Media Source Extensions and nothing else.
//
// `window.mse.createPlayer` has the shape of the other players' libraries, as far as play.mjs uses it.

window.mse = {
  Events: { ERROR: "error" },

  createPlayer({ url }) {
    const onError = [];
    const fail = (error) => onError.forEach((listener) => listener(String(error)));
    let video;

    // The codecs are in the initialisation segment: the profile in avcC, AAC LC unless told otherwise.
    const mimeType = (bytes) => {
      const at = (name) => {
        const codes = [...name].map((letter) => letter.charCodeAt(0));
        return bytes.findIndex((_, index) => codes.every((code, offset) => bytes[index + offset] === code));
      };
      const codecs = [];
      const avcC = at("avcC");
      if (avcC >= 0) {
        const profile = [...bytes.subarray(avcC + 5, avcC + 8)];
        codecs.push("avc1." + profile.map((byte) => byte.toString(16).padStart(2, "0")).join(""));
      }
      if (at("mp4a") >= 0) codecs.push("mp4a.40.2");
      return `video/mp4; codecs="${codecs.join(",")}"`;
    };

    const isWhole = (bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const ftyp = bytes.length > 8 ? view.getUint32(0) : Infinity;
      return bytes.length > ftyp + 8 && bytes.length >= ftyp + view.getUint32(ftyp);
    };

    const start = () => {
      const source = new MediaSource();
      video.src = URL.createObjectURL(source);
      source.addEventListener("sourceopen", () => {
        let buffer = null;
        let waiting = new Uint8Array();
        const append = () => {
          if (!buffer && isWhole(waiting)) {
            buffer = source.addSourceBuffer(mimeType(waiting));
            buffer.addEventListener("updateend", append);
            buffer.addEventListener("error", () => fail("the source buffer refused a segment"));
          }
          if (!buffer || buffer.updating || waiting.length === 0) return;
          const bytes = waiting;
          waiting = new Uint8Array();
          buffer.appendBuffer(bytes);
          // A live stream does not begin at 0.
          if (buffer.buffered.length > 0 && video.currentTime < buffer.buffered.start(0)) {
            video.currentTime = buffer.buffered.start(0);
          }
        };
        const push = (bytes) => {
          const joined = new Uint8Array(waiting.length + bytes.length);
          joined.set(waiting);
          joined.set(bytes, waiting.length);
          waiting = joined;
          try {
            append();
          } catch (error) {
            fail(error);
          }
        };
        if (url.startsWith("ws")) {
          const socket = new WebSocket(url);
          socket.binaryType = "arraybuffer";
          socket.onmessage = (message) => push(new Uint8Array(message.data));
          socket.onerror = () => fail("the WebSocket failed");
        } else {
          fetch(url)
            .then(async (response) => {
              if (!response.ok) throw new Error(`status ${response.status}`);
              const reader = response.body.getReader();
              for (;;) {
                const { done, value } = await reader.read();
                if (done) return;
                push(value);
              }
            })
            .catch(fail);
        }
      });
    };

    return {
      on: (_, listener) => onError.push(listener),
      attachMediaElement: (element) => (video = element),
      load: () => start(),
      play: () => video.play(),
    };
  },
};
