// Near-duplicates: trailers that are nearly the same.
import { get } from "./api.js";
import { announce, clock, fill, h, number } from "./dom.js";
import { card, ending, head, problem } from "./parts.js";

const PAGE = 30;
const SOON_MS = 400; // an answer that takes longer comes into a page that is there already
const AGAIN_MS = 2000;

export async function showTwins({ signal }) {
  const said = h("p", { class: "lead" }, "Near-duplicates are being looked for, once for each index.");
  const body = h("div", {});
  await Promise.race([ask(said, body, signal), pause(SOON_MS)]);
  return h("div", {}, head("Twins", null, said), body);
}

// Of a large index it takes longer to find them than an answer may.
async function ask(said, body, signal) {
  const began = Date.now();
  while (!signal.aborted) {
    try {
      const answer = await get(`duplicates?limit=${PAGE}`, signal);
      fill(said, lead(answer.n));
      show(body, answer, signal);
      if (Date.now() - began > SOON_MS) announce(lead(answer.n));
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (error.status !== 503) {
        fill(body, problem(error, () => ask(said, fill(body), signal)));
        return;
      }
      fill(said, `${error.message[0].toUpperCase()}${error.message.slice(1)}. This page asks again by itself.`);
      await pause(AGAIN_MS);
    }
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function lead(n) {
  return n
    ? `${number(n)} ${n === 1 ? "group" : "groups"} of trailers that are nearly the same: teasers, recuts, and other copies.`
    : "No two trailers of the index are nearly the same.";
}

function show(body, { n, groups }, signal) {
  const list = h("div", {}, groups.map((group, place) => showGroup(group, place)));
  const end = ending(groups.length, n, async (shown) => {
    const answer = await get(`duplicates?offset=${shown}&limit=${PAGE}`, signal);
    list.append(...answer.groups.map((group, place) => showGroup(group, shown + place)));
    return [answer.groups.length, answer.n];
  }, signal);
  fill(body,
    !n && h("p", { class: "note" }, "A trailer that comes again as a teaser, a recut or another copy is shown here beside the first."),
    list, end);
}

function showGroup(group, n) {
  const id = `group-${n}`;
  const films = new Set(group.trailers.map((trailer) => trailer.film_id)).size;
  const of = films === 1 ? "of one film" : `of ${films} films`;
  const closest = group.pairs[0] ? ` The closest two score ${group.pairs[0][2].toFixed(3)}${shared(group.evidence?.[0])}.` : "";
  return h("section", { class: "ad", "aria-labelledby": id },
    h("h2", { id }, group.trailers[0].title),
    h("p", { class: "soft" }, `${group.trailers.length} trailers ${of}.${closest}`),
    h("ul", { class: "wall row", tabindex: 0, "aria-labelledby": id }, group.trailers.map((trailer) => card(trailer))),
    group.pairs.length > 1 && everyPair(group));
}

function everyPair({ trailers, pairs, evidence }) {
  const titles = new Map(trailers.map((trailer) => [trailer.trailer_id, trailer.title]));
  return h("details", { class: "alike" }, h("summary", {}, `What speaks for each of the ${number(pairs.length)} pairs`),
    h("ul", { class: "reason" }, pairs.map(([one, other, score], n) =>
      h("li", {}, `${titles.get(one)} (${one}) and ${titles.get(other)} (${other}) score ${score.toFixed(3)}${shared(evidence?.[n])}.`))));
}

function shared(evidence) {
  if (!evidence) return "";
  if (!evidence.is_confirmed) return "; their frames cannot be read any longer, so nothing else speaks for it";
  const { frames, sound } = evidence;
  const times = frames.slice(0, 3).map((pair) => `${clock(pair.one_s)} and ${clock(pair.other_s)}`).join("; ");
  const seen = frames.length ? ` and show the same at ${times}${frames.length > 3 ? " \u2026" : ""}` : "";
  return sound === null ? seen : `${seen}${seen ? "; " : " and "}their sounds correlate by ${sound.toFixed(2)}`;
}
