// Ads and films, from both sides: for each ad the films that suit it, and for each film the ads that it was given.
import { address, get, picture } from "./api.js";
import { announce, clock, fill, h, number } from "./dom.js";
import { card, ending, head, legend, problem, scoreBar, strip } from "./parts.js";

const PAGE = 60;
const TYPING_MS = 90;
const N_GENRES = 4;

export async function showAds({ id, query, signal }) {
  const { runs } = await get("ads", signal);
  if (!runs.length) return h("div", {}, head("Ads", "Which films suit an advertisement?"), h("p", { class: "note" }, "No ads have been matched yet: the DAG ads_match does it."));
  const name = id || runs[0];
  const run = await get(`ads/${encodeURIComponent(name)}`, signal);
  const isByFilm = query.get("by") === "film";
  const way = (run, isByFilm) => `#/ads/${encodeURIComponent(run)}${isByFilm ? "?by=film" : ""}`;
  const choice = h("select", { id: "run", onchange: () => { location.hash = way(choice.value, isByFilm); } },
    runs.map((each) => h("option", { value: each, selected: each === name }, each)));
  const side = (label, isThis, isFilm) => h("a", { class: "chip", href: way(name, isFilm), "aria-current": isThis && "page" }, label);
  return h("div", {},
    head("Ads", isByFilm ? "For each film, the ads that suit it best, where no ad may take all films." : "For each advertisement, the films whose trailers are most like it.",
      h("div", { class: "bar-head" },
        h("div", { class: "field" }, h("label", { for: "run" }, "Run"), choice),
        run.has_report && h("a", { href: address(`ads/${encodeURIComponent(name)}/report`) }, "The report, with its frames"))),
    h("div", { class: "chips", role: "group", "aria-label": "Sides" }, side("Ads and their films", !isByFilm, false), side("Films and their ads", isByFilm, true)),
    legend(),
    isByFilm ? await showFilms(name, signal) : showAllAds(name, run.ads));
}

function showAllAds(run, ads) {
  const bad = ads.filter((ad) => ad.problem);
  return [
    ads.filter((ad) => !ad.problem).map((ad, n) => showAd(run, ad, n)),
    bad.length > 0 && h("section", { "aria-labelledby": "problems" }, h("h2", { id: "problems" }, "Could not be matched"),
      h("dl", { class: "facts" }, bad.map((ad) => h("div", {}, h("dt", {}, ad.ad), h("dd", {}, `${ad.problem.replaceAll("_", " ")}: ${ad.detail}`))))),
  ];
}

function showAd(run, ad, n) {
  const id = `ad-${n}`;
  const mix = Object.entries(ad.genre_mix).sort((one, other) => other[1] - one[1]).slice(0, N_GENRES).map(([genre, share]) => `${genre} ${Math.round(100 * share)}%`);
  return h("section", { class: "ad", "aria-labelledby": id },
    h("h2", { id }, ad.ad),
    h("p", { class: "soft" }, ad.reason, mix.length > 0 && ` \u00b7 the films nearest to it: ${mix.join(", ")}`),
    ad.frame_times_s.length > 0 && strip(ad.frame_times_s.map((time, place) => [frameOf(run, ad, place), time])),
    h("ol", { class: "wall row", tabindex: 0, "aria-label": `Films for ${ad.ad}` }, ad.films.map((film) =>
      card(film.best, scoreBar(film.best),
        h("p", { class: "reason" }, film.reason, film.percentile > 0 && ` \u00b7 closer than ${Math.floor(film.percentile)} of 100 pairs of films`),
        film.frames.length > 0 && ad.frame_times_s.length > 0 && closest(run, ad, film)))));
}

// One of the frames that lie side by side in the ad's picture.
function frameOf(run, ad, place) {
  return h("img", {
    class: "cut", src: address(`ads/${encodeURIComponent(run)}/pictures/${encodeURIComponent(ad.ad)}.jpg`), alt: `The ad at ${clock(ad.frame_times_s[place])}`,
    width: 144, height: 144, loading: "lazy", vars: { "--at": `${(100 * place) / Math.max(1, ad.frame_times_s.length - 1)}%` },
  });
}

// Which frames of the trailer those are is asked for when they are to be seen.
function closest(run, ad, film) {
  const id = film.best.trailer_id;
  const list = h("ul", { class: "pairs" });
  const show = async () => {
    try {
      const { frame_times_s: times } = await get(`trailers/${encodeURIComponent(id)}`);
      fill(list, film.frames.map((pair) => h("li", {},
        frameOf(run, ad, nearest(ad.frame_times_s, pair.one_s)),
        h("img", { src: picture(id, `frames/${nearest(times, pair.other_s)}.jpg`), alt: `The trailer at ${clock(pair.other_s)}`, width: 144, height: 144 }),
        h("span", { class: "soft", "aria-hidden": "true" }, clock(pair.one_s)), h("span", { class: "soft", "aria-hidden": "true" }, clock(pair.other_s)))));
    } catch (error) {
      fill(list, h("li", {}, problem(error, show)));
    }
  };
  return h("details", { class: "alike", ontoggle: () => list.childElementCount || show() }, h("summary", {}, "Frames most alike"), list);
}

const nearest = (times, time) => times.reduce((best, each, n) => (Math.abs(each - time) < Math.abs(times[best] - time) ? n : best), 0);

async function showFilms(run, signal) {
  const field = h("input", { type: "search", id: "q", placeholder: "Search films", autocomplete: "off", spellcheck: "false", maxlength: 100, "aria-describedby": "n" });
  const count = h("p", { id: "n", class: "count-line" });
  const body = h("div", {});
  const ask = (q, offset) => get(`ads/${encodeURIComponent(run)}/films?${new URLSearchParams({ q, offset, limit: PAGE })}`, signal);

  async function show() {
    const words = field.value.trim();
    try {
      const { n, films } = await ask(words, 0);
      if (words !== field.value.trim()) return; // answers may overtake each other
      const list = h("ul", { class: "wall close" }, films.map(showFilm));
      fill(count, n === 1 ? "1 film" : `${number(n)} films`);
      fill(body, list, ending(films.length, n, async (shown) => {
        const answer = await ask(words, shown);
        list.append(...answer.films.map(showFilm));
        return [answer.films.length, answer.n];
      }, signal));
      announce(count.textContent);
    } catch (error) {
      if (!signal.aborted) fill(body, problem(error, show));
    }
  }

  let typing = 0;
  field.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(show, TYPING_MS);
  });
  await show();
  return [h("div", { class: "search", role: "search" }, h("label", { for: "q", class: "unseen" }, "Search films"), field, h("kbd", { "aria-hidden": "true" }, "/"), count), body];
}

function showFilm({ trailer, ads }) {
  return card(trailer, h("ol", { class: "given", "aria-label": `Ads for ${trailer.title}` }, ads.map((ad) => h("li", {}, h("span", { class: "name" }, ad.ad), scoreBar(ad)))));
}
