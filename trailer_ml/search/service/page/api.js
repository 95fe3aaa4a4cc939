// The API, by addresses relative to this page: it may lie below any path.

export class Problem extends Error {
  constructor(status, detail, reason) {
    super(detail);
    this.status = status;
    this.reason = reason;
  }
}

export const address = (path) => new URL(`api/v1/${path}`, document.baseURI).href;
export const picture = (id, what) => address(`trailers/${encodeURIComponent(id)}/${what}`);

export async function get(path, signal) {
  let answer;
  try {
    answer = await fetch(address(path), { signal, headers: { Accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer. Is it running?");
  }
  return read(answer.status, await answer.text());
}

export function read(status, text) {
  if (status === 401) location.reload(); // the session has run out: the server shows the way in
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { detail: "The answer could not be read." };
  }
  if (status < 200 || status > 299) throw new Problem(status, body.detail ?? "Something went wrong.", body.reason);
  return body;
}
