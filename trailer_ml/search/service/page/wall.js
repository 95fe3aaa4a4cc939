// All trailers, with search as one types and chips for the genres.
import { get } from "./api.js";
import { announce, fill, h, number } from "./dom.js";
import { card, chip, problem } from "./parts.js";

const PAGE = 60;
const MOST = 200; // the API gives no more at once
const TYPING_MS = 90;
let kept = null; // the wall as it was left: going back to it is going back to the same place

export async function showWall({ query }) {
  const asked = `${query.get("q") ?? ""}\n${query.get("genre") ?? ""}`;
  if (kept?.asked() === asked) kept.renew();
  else kept = makeWall(query.get("q") ?? "", query.get("genre") ?? "");
  await kept.ready;
  return kept.view;
}

function makeWall(words, genre) {
  let visit = new AbortController();
  let waiting = null; // the visit whose answer is on its way: the next page is asked for once
  let n = 0;
  let shown = 0;
  let version = "";
  const field = h("input", {
    type: "search", id: "q", value: words, placeholder: "Search titles", autocomplete: "off", spellcheck: "false",
    maxlength: 100, enterkeyhint: "search", "aria-describedby": "n",
  });
  const count = h("p", { id: "n", class: "count-line" });
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Genres" });
  const list = h("ul", { class: "wall" });
  const more = h("button", { type: "button", class: "more", onclick: () => load(false) }, "Show more");
  const end = h("div", { class: "end" }, more);
  const note = h("div", {});
  const view = h("div", {},
    h("h1", { class: "unseen", tabindex: -1 }, "Trailers"),
    h("div", { class: "search", role: "search" }, h("label", { for: "q", class: "unseen" }, "Search titles"), field, h("kbd", { "aria-hidden": "true" }, "/"), count),
    chips, note, list, end);

  const parameters = (offset, limit) => new URLSearchParams({ q: words, genre, offset, limit });

  async function load(anew, limit = PAGE) {
    if (anew) {
      visit.abort();
      visit = new AbortController();
    } else if (waiting === visit) return;
    const mine = waiting = visit;
    try {
      const answer = await get(`trailers?${parameters(anew ? 0 : shown, limit)}`, mine.signal);
      if (mine.signal.aborted) return;
      ({ n, index_version: version } = answer);
      const cards = answer.trailers.map((trailer) => card(trailer));
      if (anew) {
        fill(list, cards);
        shown = 0;
      } else list.append(...cards);
      shown += cards.length;
      showChips(answer.genres);
      more.hidden = shown >= n || cards.length === 0;
      fill(count, n === 1 ? "1 trailer" : `${number(n)} trailers`);
      fill(note, n === 0 && h("p", { class: "note" }, "No title has these words. ", h("button", { type: "button", class: "plain", onclick: clear }, "Show all")));
      if (anew) announce(count.textContent);
    } catch (error) {
      if (!mine.signal.aborted) fill(note, problem(error, () => load(anew)));
    } finally {
      if (waiting === mine) waiting = null;
    }
  }

  // What was taken down, or came, while another page was looked at.
  async function renew() {
    const mine = visit;
    if (waiting === mine) return;
    try {
      const answer = await get(`trailers?${parameters(0, 1)}`, mine.signal);
      if (!mine.signal.aborted && (answer.n !== n || answer.index_version !== version)) load(true, Math.min(MOST, Math.max(PAGE, shown)));
    } catch {
      // the wall stays as it was
    }
  }

  function showChips(genres) {
    if (chips.childElementCount) {
      for (const each of chips.children) each.setAttribute("aria-pressed", String((each.dataset.genre ?? "") === genre));
      return;
    }
    fill(chips, Object.entries(genres).map(([name, size]) => {
      const made = chip(name, number(size), name === genre, () => choose(name === genre ? "" : name));
      made.dataset.genre = name;
      return made;
    }));
    chips.hidden = Object.keys(genres).length === 0;
  }

  function choose(name) {
    genre = name;
    ask();
  }

  function clear() {
    field.value = words = genre = "";
    ask();
    field.focus();
  }

  function ask() {
    const parameters = new URLSearchParams();
    if (words) parameters.set("q", words);
    if (genre) parameters.set("genre", genre);
    history.replaceState(null, "", `#/${parameters.size ? `?${parameters}` : ""}`);
    return load(true);
  }

  let typing = 0;
  field.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      words = field.value.trim();
      ask();
    }, TYPING_MS);
  });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && shown && shown < n) load(false);
  }, { rootMargin: "600px" }).observe(end);
  const ready = load(true);
  return { view, ready, renew, asked: () => `${words}\n${genre}` };
}
