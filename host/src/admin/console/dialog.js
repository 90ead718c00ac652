// The page's one dialog.

import { element } from "./elements.js";

const dialog = document.querySelector("#dialog");

/**
 * Shows a dialog. `actions` are `{ text, class, run }`: `run` may be async, an error it throws is shown, and without one the dialog
 * closes. The first action is that of the Enter key. Returns a promise that ends when the dialog is closed.
 */
export function show(title, content, actions, { close = "Cancel" } = {}) {
  const error = element("p", { class: "error", role: "alert" });
  const perform = async (action) => {
    error.textContent = "";
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    try {
      await action.run?.();
      dialog.close();
    } catch (reason) {
      error.textContent = reason.message;
    }
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  };
  const buttons = actions.map((action, at) => element("button", {
    type: at === 0 ? "submit" : "button", class: action.class ?? "primary",
    onclick: at === 0 ? () => {} : () => perform(action),
  }, action.text));
  const leave = close && element("button", { type: "button", onclick: () => dialog.close() }, close);
  const form = element("form", {
    onsubmit: (event) => {
      event.preventDefault();
      if (actions[0]) perform(actions[0]);
      else dialog.close();
    },
  }, element("h2", { id: "dialog-title" }, title), ...content, error, element("div", { class: "buttons" }, leave, ...buttons));
  dialog.replaceChildren(form);
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

export const isOpen = () => dialog.open;
