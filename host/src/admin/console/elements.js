// Elements, and lists that keep their elements while their data change.

/** Creates an element. Properties that start with `on` are listeners; `class`, `data-*`, `aria-*` and others are attributes. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export const text = (content) => document.createTextNode(content);

/** Sets the text of an element, unless it is the same: selections and screen readers are left alone. */
export function setText(node, content) {
  if (node.textContent !== content) node.textContent = content;
}

/** Returns a badge; `kind` is `good`, `warn`, `bad` or nothing. */
export const badge = (content, kind = "") => element("span", { class: `badge ${kind}` }, content);

/** Sets text and kind of a badge. */
export function setBadge(node, content, kind = "") {
  setText(node, content);
  node.className = `badge ${kind}`;
}

/**
 * A list of items in a parent element. `create(item)` returns `{ node, update(item), remove() }`; `update` and `remove` may be
 * missing. Items with the same key keep their element, so that players and the focus survive updates.
 */
export class KeyedList {
  #parent;
  #key;
  #create;
  #entries = new Map();

  constructor(parent, key, create) {
    this.#parent = parent;
    this.#key = key;
    this.#create = create;
  }

  show(items) {
    const before = this.#entries;
    this.#entries = new Map();
    let place = this.#parent.firstChild;
    for (const item of items) {
      const key = this.#key(item);
      const entry = before.get(key) ?? this.#create(item);
      before.delete(key);
      entry.update?.(item);
      this.#entries.set(key, entry);
      if (entry.node === place) place = place.nextSibling;
      else this.#parent.insertBefore(entry.node, place);
    }
    for (const entry of before.values()) {
      entry.remove?.();
      entry.node.remove();
    }
  }

  /** Removes all. */
  clear() {
    this.show([]);
  }
}

/** Returns a table; the cells of its body get the words of the head, for narrow screens. */
export function table(heads, body) {
  const cell = (head) => element("th", { scope: "col", class: head.end ? "end" : null }, head.text ?? head);
  return element("table", { class: "rows" }, element("thead", {}, element("tr", {}, ...heads.map(cell))), body);
}
