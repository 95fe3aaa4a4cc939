// Near-duplicates: trailers that are nearly the same.
import { get } from "./api.js";
import { clock, h, number } from "./dom.js";
import { card, head } from "./parts.js";

const AT_MOST = 100;

export async function showTwins({ signal }) {
  const { groups } = await get("duplicates", signal);
  return h("div", {},
    head("Twins", groups.length
      ? `${number(groups.length)} ${groups.length === 1 ? "group" : "groups"} of trailers that are nearly the same: teasers, recuts, and other copies.`
      : "No two trailers of the index are nearly the same."),
    !groups.length && h("p", { class: "note" }, "A trailer that comes again as a teaser, a recut or another copy is shown here beside the first."),
    groups.slice(0, AT_MOST).map(showGroup),
    groups.length > AT_MOST && h("p", { class: "note" }, `The closest ${AT_MOST} groups are shown.`));
}

function showGroup(group, n) {
  const id = `group-${n}`;
  const closest = group.pairs[0] ? group.pairs[0][2].toFixed(3) : "";
  const films = new Set(group.trailers.map((trailer) => trailer.film_id)).size;
  const of = films === 1 ? "of one film" : `of ${films} films`;
  return h("section", { class: "ad", "aria-labelledby": id },
    h("h2", { id }, group.trailers[0].title),
    h("p", { class: "soft" }, `${group.trailers.length} trailers ${of}; the closest two score ${closest}${shared(group)}`),
    h("ul", { class: "wall row", tabindex: 0, "aria-labelledby": id }, group.trailers.map((trailer) => card(trailer))));
}

function shared(group) {
  const frames = group.evidence?.[0]?.frames ?? [];
  if (!frames.length) return "";
  const times = frames.slice(0, 3).map((pair) => `${clock(pair.one_s)} and ${clock(pair.other_s)}`).join("; ");
  return ` and show the same at ${times}${frames.length > 3 ? " \u2026" : ""}`;
}
