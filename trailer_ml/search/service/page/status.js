// The state of the pipeline.
import { get } from "./api.js";
import { ago, h, number } from "./dom.js";
import { head } from "./parts.js";

const WORDS = { taken_down: "taken down" };

export async function showStatus({ signal }) {
  const answer = await get("status", signal);
  const { status } = answer;
  const recall = status.index_recall_at_10;
  return h("div", {},
    head("Status", `${number(status.n_listed)} trailers are listed; each is in one state.`),
    !answer.is_up_to_date && h("p", { class: "note bad", role: "alert" }, "The object store has not answered of late: what is served may be old."),
    h("div", { class: "tiles" },
      tile("Trailers in the index", answer.n_indexed === null ? "none" : number(answer.n_indexed)),
      tile("Recall at 10", recall === null ? "unknown" : recall.toFixed(3), "against exact search"),
      tile("Published", answer.index_age_s === null ? "never" : ago(answer.index_age_s), status.index_version ?? ""),
      tile("Model", status.champion ?? "none yet", "", true)),
    h("div", { class: "pair" },
      bars("States", status.states, status.n_listed),
      h("div", {},
        bars("Why trailers are out", status.reasons, status.n_listed),
        bars("Titles set aside", status.titles_set_aside, 0),
        blocked(status.blocked))));
}

function tile(name, value, small = "", isLong = false) {
  return h("div", { class: isLong ? "tile long" : "tile" }, h("p", { class: "name" }, name), h("p", { class: "value" }, value), small && h("p", { class: "small" }, small));
}

function bars(title, counts, total) {
  const rows = Object.entries(counts);
  const most = total || Math.max(1, ...Object.values(counts));
  const id = `t-${title.replaceAll(" ", "-").toLowerCase()}`;
  return h("section", { "aria-labelledby": id },
    h("h2", { id }, title),
    rows.length
      ? h("table", { class: "bars" }, h("tbody", {}, rows.map(([name, n]) =>
        h("tr", { class: n ? "" : "zero" }, h("th", { scope: "row" }, (WORDS[name] ?? name).replaceAll("_", " ")),
          h("td", { class: "n" }, number(n)),
          h("td", { class: "track", "aria-hidden": "true" }, h("i", { vars: { "--w": `${(100 * n) / most}%` } }))))))
      : h("p", { class: "soft" }, "none"));
}

function blocked(sources) {
  const rows = Object.entries(sources);
  return rows.length > 0 && h("section", { "aria-labelledby": "blocked" }, h("h2", { id: "blocked" }, "Sources that do not want us"),
    h("dl", { class: "facts" }, rows.map(([name, why]) => h("div", {}, h("dt", {}, name), h("dd", {}, why)))));
}
