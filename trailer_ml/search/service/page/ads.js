// Ads beside the films that suit them.
import { address, get } from "./api.js";
import { h } from "./dom.js";
import { card, head, legend, scoreBar } from "./parts.js";

export async function showAds({ id, signal }) {
  const { runs } = await get("ads", signal);
  if (!runs.length) return h("div", {}, head("Ads", "Which films suit an advertisement?"), h("p", { class: "note" }, "No ads have been matched yet: the DAG ads_match does it."));
  const name = id || runs[0];
  const run = await get(`ads/${encodeURIComponent(name)}`, signal);
  const choice = h("select", { id: "run", onchange: () => { location.hash = `#/ads/${encodeURIComponent(choice.value)}`; } },
    runs.map((each) => h("option", { value: each, selected: each === name }, each)));
  const good = run.ads.filter((ad) => !ad.problem);
  const bad = run.ads.filter((ad) => ad.problem);
  return h("div", {},
    head("Ads", "For each advertisement, the films whose trailers are most like it.",
      h("div", { class: "bar-head" },
        h("div", { class: "field" }, h("label", { for: "run" }, "Run"), choice),
        run.has_report && h("a", { href: address(`ads/${encodeURIComponent(name)}/report`) }, "The report, with its frames"))),
    legend(),
    good.map(showAd),
    bad.length > 0 && h("section", { "aria-labelledby": "problems" }, h("h2", { id: "problems" }, "Could not be matched"),
      h("dl", { class: "facts" }, bad.map((ad) => h("div", {}, h("dt", {}, ad.ad), h("dd", {}, `${ad.problem.replaceAll("_", " ")}: ${ad.detail}`))))));
}

function showAd(ad, n) {
  const id = `ad-${n}`;
  return h("section", { class: "ad", "aria-labelledby": id },
    h("h2", { id }, ad.ad),
    h("p", { class: "soft" }, ad.reason),
    h("ol", { class: "wall row", tabindex: 0, "aria-label": `Films for ${ad.ad}` }, ad.films.map((film) =>
      card(film.best, scoreBar(film.best), h("p", { class: "reason" }, film.reason, film.percentile > 0 && ` \u00b7 closer than ${Math.floor(film.percentile)} of 100 pairs of films`)))));
}
