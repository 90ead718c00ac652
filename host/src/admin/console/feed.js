// The host's events: what has changed, and each second the numbers of its streams.

/** Events after which lists are out of date. `hello` begins each subscription, and changes before it were missed. */
const CHANGES = ["hello", "published", "unpublished", "codecs", "module-loaded", "module-state", "module-fault", "reload"];

/** A subscription, which the browser renews when its connection is lost. `onChange` gets the name of an event, `onNumbers` data. */
export class Feed {
  #source = null;
  #onChange;
  #onNumbers;

  constructor(onChange, onNumbers) {
    this.#onChange = onChange;
    this.#onNumbers = onNumbers;
  }

  get isOpen() {
    return this.#source?.readyState === EventSource.OPEN;
  }

  /** Subscribes, unless it is subscribed. The host may refuse, since subscriptions are few. */
  open() {
    if (this.#source && this.#source.readyState !== EventSource.CLOSED) return;
    this.#source = new EventSource("/api/v2/events");
    for (const name of CHANGES) this.#source.addEventListener(name, () => this.#onChange(name));
    this.#source.addEventListener("numbers", ({ data }) => this.#onNumbers(JSON.parse(data)));
  }

  close() {
    this.#source?.close();
    this.#source = null;
  }
}
