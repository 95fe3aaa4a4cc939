// Which page is shown, by the part of the address after #; what is served, in the footer.
import { get } from "./api.js";
import { ago, fill, h } from "./dom.js";
import { problem } from "./parts.js";
import { showWall } from "./wall.js";

const main = document.getElementById("main");
const PAGES = {
  "": async () => showWall,
  trailer: async () => (await import("./trailer.js")).showTrailer,
  map: async () => (await import("./map.js")).showMap,
  match: async () => (await import("./match.js")).showMatch,
  ads: async () => (await import("./ads.js")).showAds,
  twins: async () => (await import("./twins.js")).showTwins,
  status: async () => (await import("./status.js")).showStatus,
};
const scrolled = new Map();
let current = null;
let shown = "";

function parse() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/");
  let id = "";
  try {
    id = decodeURIComponent(rest.join("/"));
  } catch {
    // an address that was cut off in the middle of a character names nothing
  }
  return { page, id, query: new URLSearchParams(query) };
}

async function show() {
  if (location.hash === "#main") return;
  const { page, id, query } = parse();
  scrolled.set(shown, scrollY);
  current?.abort();
  const visit = (current = new AbortController());
  const isFirst = shown === "";
  shown = location.hash || "#/";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === page || (page === "trailer" && link.dataset.page === "")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  try {
    const make = await (PAGES[page] ?? PAGES[""])();
    const view = await make({ id, query, signal: visit.signal });
    if (visit.signal.aborted) return;
    fill(main, view);
    document.title = `${main.querySelector("h1")?.textContent ?? "Trailers"} · Trailer ML`;
  } catch (error) {
    if (visit.signal.aborted) return;
    fill(main, h("h1", { class: "unseen", tabindex: -1 }, "Something went wrong"), problem(error, show));
  }
  main.removeAttribute("aria-busy");
  scrollTo(0, page === "" ? scrolled.get(shown) ?? 0 : 0);
  if (!isFirst) (main.querySelector("h1") ?? main).focus({ preventScroll: true });
}

// Pictures that are still wanted would be asked for without the session, between its end and the way in.
function leave() {
  current?.abort();
  for (const video of main.querySelectorAll("video")) {
    video.removeAttribute("src");
    video.load();
  }
  fill(main, h("h1", { class: "unseen" }, "Logging out"));
  stop();
}

async function tell() {
  const foot = document.getElementById("foot");
  try {
    const { status, index_age_s: age, needs_login: needsLogin } = await get("status");
    fill(foot,
      h("span", {}, status.index_version ? `Index ${status.index_version}${age === null ? "" : `, published ${ago(age)}`}` : "No index yet"),
      status.champion && h("span", {}, `Model ${status.champion}`),
      needsLogin && h("form", { method: "post", action: "logout", onsubmit: leave }, h("button", { type: "submit", class: "plain" }, "Log out")));
  } catch {
    fill(foot, "The state of the service is not known.");
  }
}

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = document.querySelector("input[type=search]");
  if (field) {
    event.preventDefault();
    field.focus();
  }
});
show();
tell();
