// Requests to the API, and the session that allows them.

/** A response other than 200. */
export class ApiError extends Error {
  constructor(status, reason) {
    super(reason || `the API answered ${status}`);
    this.status = status;
  }
}

/** Called when the API wants credentials. */
let onDenied = () => {};
export const whenDenied = (action) => { onDenied = action; };

/** Sends a request, with a body of JSON if there is one. Returns its JSON. Throws an ApiError, or a TypeError without an answer. */
export async function request(method, path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  if (response.status === 401 && !body) onDenied();
  // A refused reload has a report too.
  const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
  if (!response.ok && !(response.status === 409 && isJson)) {
    throw new ApiError(response.status, (await response.text()).trim());
  }
  return isJson ? response.json() : null;
}

export const read = (path) => request("GET", path);

/** Returns a query with these parameters. */
export const query = (parameters) => `?${new URLSearchParams(parameters)}`;

/** Begins a session, whose cookie scripts cannot read. */
export const logIn = (name, password) => request("POST", "/api/v2/session", { name, password });

export const logOut = () => request("DELETE", "/api/v2/session");
