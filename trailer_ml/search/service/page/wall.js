// All trailers, with search as one types and chips for the genres.
import { get } from "./api.js";
import { announce, fill, h, number } from "./dom.js";
import { card, chip, problem } from "./parts.js";

const PAGE = 60;
const TYPING_MS = 90;
let kept = null; // the wall as it was left: going back to it costs nothing

export async function showWall({ query }) {
  const asked = `${query.get("q") ?? ""}\n${query.get("genre") ?? ""}`;
  if (!kept || kept.asked() !== asked) kept = makeWall(query.get("q") ?? "", query.get("genre") ?? "");
  await kept.ready;
  return kept.view;
}

function makeWall(words, genre) {
  let visit = new AbortController();
  let n = 0;
  let shown = 0;
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

  async function load(anew) {
    if (anew) {
      visit.abort();
      visit = new AbortController();
    }
    const mine = visit;
    const parameters = new URLSearchParams({ q: words, genre, offset: anew ? 0 : shown, limit: PAGE });
    try {
      const answer = await get(`trailers?${parameters}`, mine.signal);
      if (mine.signal.aborted) return;
      n = answer.n;
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
  return { view, ready, asked: () => `${words}\n${genre}` };
}
