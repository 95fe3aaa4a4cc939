// What several pages show: a trailer's card, the bar of a score, a heading, a problem.
import { clock, fill, h } from "./dom.js";
import { picture } from "./api.js";

export const trailerLink = (id) => `#/trailer/${encodeURIComponent(id)}`;

export function thumb(id) {
  const image = h("img", { src: picture(id, "thumb"), alt: "", loading: "lazy", decoding: "async", width: 224, height: 224 });
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "none" }, "no picture")), { once: true });
  return h("span", { class: "thumb" }, image);
}

export function facts(trailer) {
  const parts = [trailer.year, trailer.genres.join(", "), trailer.kind !== "trailer" ? trailer.kind : null];
  return parts.filter(Boolean).join(" · ");
}

export function card(trailer, ...more) {
  return h("li", { class: "card" },
    h("a", { href: trailerLink(trailer.trailer_id) },
      thumb(trailer.trailer_id),
      h("span", { class: "title" }, trailer.title),
      h("span", { class: "meta" }, facts(trailer) || "\u00a0")),
    ...more);
}

export function scoreBar(answer) {
  // A share may be below nothing; the bar is as long as the score all the same.
  const sum = Math.max(answer.video_share, 0) + Math.max(answer.audio_share, 0);
  const width = (share) => `${sum > 0 ? (100 * Math.max(share, 0) * Math.min(Math.max(answer.score, 0), 1)) / sum : 0}%`;
  const [score, video, audio] = [answer.score, answer.video_share, answer.audio_share].map((share) => share.toFixed(2));
  return h("div", { class: "score" },
    h("span", { class: "total" }, h("span", { class: "unseen" }, "Score "), score),
    h("span", { class: "bar", "aria-hidden": "true" },
      h("i", { class: "video", vars: { "--w": width(answer.video_share) } }),
      h("i", { class: "audio", vars: { "--w": width(answer.audio_share) } })),
    h("span", { class: "shares" }, `picture ${video}`, h("span", { "aria-hidden": "true" }, " · "), h("span", { class: "unseen" }, ", "), `sound ${audio}`));
}

export function legend() {
  return h("p", { class: "legend" },
    h("span", {}, h("i", { class: "video" }), "picture"),
    h("span", {}, h("i", { class: "audio" }), "sound"),
    h("span", {}, "A full bar is a score of 1: the same trailer."));
}

export function neighbours(list) {
  return h("ol", { class: "wall close" }, list.map((each) => card(each, scoreBar(each), others(each.also))));
}

function others(ids) {
  if (!ids?.length) return null;
  return h("p", { class: "reason" }, "also of this film: ", ids.map((id, n) => [n ? ", " : "", h("a", { href: trailerLink(id), class: "inline" }, `trailer ${n + 2}`)]));
}

export function head(title, lead, ...more) {
  return h("div", { class: "head" }, h("h1", { tabindex: -1 }, title), lead && h("p", { class: "lead" }, lead), ...more);
}

// Pictures of a few moments: [element, seconds] each.
export function strip(pictures) {
  return h("ol", { class: "strip" }, pictures.map(([image, time]) => h("li", {}, image, h("span", { "aria-hidden": "true" }, clock(time)))));
}

// The end of a list that comes page by page: `load` adds what comes after so many, and answers how many that were, and of how many.
export function ending(shown, n, load, signal) {
  let isWaiting = false;
  const note = h("div", {});
  const more = h("button", { type: "button", class: "more", hidden: shown >= n, onclick: next }, "Show more");

  async function next() {
    if (isWaiting) return;
    isWaiting = true;
    try {
      const [added, total] = await load(shown);
      shown += added;
      more.hidden = shown >= total || !added;
      fill(note);
    } catch (error) {
      if (!signal.aborted) fill(note, problem(error, next));
    } finally {
      isWaiting = false;
    }
  }

  return [note, h("div", { class: "end" }, more)];
}

export function problem(error, retry) {
  return h("div", { class: "note", role: "alert" },
    h("p", {}, error.message || "Something went wrong."),
    retry && h("button", { type: "button", onclick: retry }, "Try again"));
}

export function chip(label, count, isPressed, onclick) {
  return h("button", { type: "button", class: "chip", "aria-pressed": String(isPressed), onclick },
    label, count === null ? null : h("span", { class: "count" }, String(count)));
}
