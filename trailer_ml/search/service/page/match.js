// A video from this machine, and the trailers that are like it.
import { address, get, read } from "./api.js";
import { announce, fill, h, number, percent } from "./dom.js";
import { head, legend, neighbours, problem } from "./parts.js";

// A finger cannot drop a file.
const canDrop = matchMedia("(hover: hover)").matches;
const IDLE = canDrop ? ["Drop a video here", "or choose one from this device"] : ["Choose a video", "from this device"];
const ANOTHER = canDrop ? "Drop another to go on" : "Choose another to go on";

export async function showMatch({ signal }) {
  const results = h("div", {});
  const most = get("status", signal).then((answer) => answer.max_upload_bytes, () => Infinity);
  const input = h("input", { type: "file", id: "file", accept: "video/*", class: "unseen", onchange: () => input.files[0] && send(input.files[0]) });
  const words = h("span", { class: "drop-words" }, h("strong", {}, IDLE[0]), h("span", {}, IDLE[1]));
  const progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" });
  const area = h("label", { class: "drop", for: "file" }, input, words, progress);
  let request = null;

  const lit = (isLit) => area.classList.toggle("lit", isLit);
  area.addEventListener("dragover", (event) => { event.preventDefault(); lit(true); });
  area.addEventListener("dragleave", () => lit(false));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    lit(false);
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
  signal.addEventListener("abort", () => request?.abort());

  function say(title, text) {
    fill(words, h("strong", {}, title), h("span", {}, text));
    announce(`${title} ${text}`);
  }

  async function send(file) {
    request?.abort();
    const mine = request = new XMLHttpRequest(); // fetch does not say how far an upload is
    fill(results);
    progress.hidden = false;
    progress.value = 0;
    say(file.name, "is on its way");
    const limit = await most;
    if (request !== mine || signal.aborted) return; // another one was chosen meanwhile
    if (file.size > limit) {
      input.value = "";
      progress.hidden = true;
      say(...IDLE);
      fill(results, problem(new Error(`It has ${number(file.size)} bytes: at most ${number(limit)} bytes are taken.`)));
      return;
    }
    request.open("POST", address("match?k=12"));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      progress.value = event.loaded / event.total;
      if (event.loaded < event.total) fill(words.lastChild, percent(progress.value));
    });
    request.upload.addEventListener("load", () => {
      progress.removeAttribute("value");
      say(file.name, "is being looked at");
    });
    request.addEventListener("loadend", finish);
    request.send(file);

    function finish() {
      if (signal.aborted) return;
      progress.hidden = true;
      input.value = "";
      try {
        if (request.status === 0) throw new Error("It could not be sent. Is it too large, or the service gone?");
        const answer = read(request.status, request.responseText);
        say(file.name, ANOTHER);
        fill(results, h("h2", {}, `Most like ${file.name}`), legend(), neighbours(answer.neighbours));
      } catch (error) {
        say(...IDLE);
        fill(results, problem(error));
      }
    }
  }

  return h("div", {},
    head("Match a video", "It is compared with every trailer by what is seen and heard, and deleted once it was looked at."),
    area, results);
}
