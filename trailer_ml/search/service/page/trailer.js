// One trailer: what is known of it, what the model sees of it, and what is like it.
import { address, get, picture } from "./api.js";
import { clock, fill, h } from "./dom.js";
import { facts, head, legend, neighbours, problem, strip, thumb } from "./parts.js";

const isFramed = window !== window.top; // as in Airflow, whose frame opens no other window: there is only the address to copy

export async function showTrailer({ id, signal }) {
  const path = `trailers/${encodeURIComponent(id)}`;
  const [answer, similar] = await Promise.all([get(path, signal), get(`${path}/similar?k=12`, signal)]);
  const { trailer } = answer;
  return h("article", { class: "trailer" },
    h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Trailers")),
    head(trailer.title, facts(trailer)),
    h("div", { class: "sides" }, stage(trailer, answer), about(trailer, answer)),
    answer.frame_times_s.length > 0 && filmstrip(trailer.trailer_id, answer.frame_times_s),
    nearest(path, trailer, similar));
}

function stage(trailer, answer) {
  if (!answer.has_media) return h("div", { class: "stage" }, thumb(trailer.trailer_id));
  return h("div", { class: "stage" },
    h("video", {
      controls: true, preload: "metadata", playsinline: true, src: address(`trailers/${encodeURIComponent(trailer.trailer_id)}/media`),
      poster: picture(trailer.trailer_id, "thumb"), "aria-label": `The trailer of ${trailer.title}`,
    }));
}

function about(trailer, answer) {
  const source = safe(answer.source_url);
  const rows = [
    ["Length", answer.duration_s ? clock(answer.duration_s) : null],
    ["Listed", answer.listed_on],
    ["Trailer", trailer.trailer_id],
    ["Film", trailer.film_id],
    ["Source", source && (isFramed ? source.href : h("a", { href: source.href, target: "_blank", rel: "noopener noreferrer" }, source.host))],
  ].filter(([, value]) => value);
  return h("div", { class: "about" },
    answer.plot && h("p", { class: "plot" }, answer.plot),
    h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    answer.has_audio
      ? h("figure", { class: "sound" },
        h("img", { src: picture(trailer.trailer_id, "spectrogram.png"), alt: "Spectrogram of its sound: time runs to the right, pitch upwards", width: 224, height: 224, loading: "lazy" }),
        h("figcaption", {}, "Its sound, as the model sees it"))
      : h("p", { class: "soft" }, "It has no sound."));
}

function filmstrip(id, times) {
  return h("section", { "aria-labelledby": "frames" },
    h("h2", { id: "frames" }, "Frames"),
    strip(times.map((time, n) =>
      [h("img", { src: picture(id, `frames/${n}.jpg`), alt: `At ${clock(time)}`, width: 224, height: 224, loading: "lazy" }), time])));
}

function nearest(path, trailer, similar) {
  const list = h("div", {}, listed(similar));
  const box = h("input", { type: "checkbox", id: "same", onchange: async () => {
    const asked = box.checked;
    let found;
    try {
      found = listed(await get(`${path}/similar?k=12&same_film=${asked}`));
    } catch (error) {
      found = problem(error);
    }
    if (asked === box.checked) fill(list, found); // answers may overtake each other
  } });
  return h("section", { "aria-labelledby": "nearest" },
    h("div", { class: "bar-head" }, h("h2", { id: "nearest" }, "Most alike"), h("label", { class: "check", for: "same" }, box, "Include its own film")),
    legend(), list);
}

const listed = (similar) => similar.neighbours.length ? neighbours(similar.neighbours) : h("p", { class: "note" }, "There is no other trailer in the index.");

function safe(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url : null;
  } catch {
    return null;
  }
}
