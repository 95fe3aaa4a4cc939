// Every trailer as a point: near each other where their vectors point the same way.
import { get } from "./api.js";
import { announce, fill, h, number, percent } from "./dom.js";
import { chip, head, thumb, trailerLink } from "./parts.js";

const N_COLOURS = 8;
const MAX_ZOOM = 60;
const REACH_PX = 22;
const MIN_ROUND = 1.8; // smaller points are drawn square, which is quicker and looks the same

export async function showMap({ signal }) {
  const map = await get("map", signal);
  const colours = colourOf(map.genres);
  const canvas = h("canvas", {
    tabindex: 0, role: "application", "aria-roledescription": "map", "aria-describedby": "how",
    "aria-label": `Map of ${number(map.ids.length)} trailers`,
  });
  const tip = h("a", { class: "tip", hidden: true, tabindex: -1 });
  const state = { zoom: 1, x: 0, y: 0, at: -1, genre: "" };
  const box = h("div", { class: "map" }, canvas, tip,
    h("div", { class: "zoom" },
      h("button", { type: "button", "aria-label": "Closer", onclick: () => zoom(1.6) }, "+"),
      h("button", { type: "button", "aria-label": "Farther", onclick: () => zoom(1 / 1.6) }, "\u2212")));
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Genres" });
  const context = canvas.getContext("2d");
  let [width, height] = [1, 1];

  const toScreen = (n) => {
    const scale = (Math.min(width, height) / 2 - 18) * state.zoom;
    return [width / 2 + (map.x[n] - state.x) * scale * stretch(), height / 2 - (map.y[n] - state.y) * scale];
  };
  const stretch = () => Math.min(1.8, Math.max(1, width / height));

  function draw() {
    const ratio = devicePixelRatio || 1;
    const style = getComputedStyle(canvas);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.scale(ratio, ratio);
    const radius = Math.max(1.6, Math.min(6, 70 / Math.sqrt(map.ids.length))) * Math.min(2, Math.sqrt(state.zoom));
    const palette = Array.from({ length: N_COLOURS + 1 }, (_, n) => style.getPropertyValue(`--g${n}`).trim());
    for (let n = 0; n < map.ids.length; n++) {
      const [x, y] = toScreen(n);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      context.globalAlpha = state.genre && map.genres[n] !== state.genre ? 0.1 : 0.85;
      context.fillStyle = palette[colours.get(map.genres[n]) ?? N_COLOURS];
      if (radius < MIN_ROUND) {
        context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
        continue;
      }
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    if (state.at >= 0) {
      const [x, y] = toScreen(state.at);
      context.lineWidth = 2.5;
      context.strokeStyle = style.color;
      context.beginPath();
      context.arc(x, y, radius + 4, 0, 7);
      context.stroke();
    }
  }

  let isDue = false;
  function later() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; draw(); });
  }

  function nearest(x, y, reach = REACH_PX) {
    let [best, distance] = [-1, reach * reach];
    for (let n = 0; n < map.ids.length; n++) {
      if (state.genre && map.genres[n] !== state.genre) continue;
      const [px, py] = toScreen(n);
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < distance) [best, distance] = [n, d];
    }
    return best;
  }

  function point(n, isSpoken = false) {
    if (n === state.at) return;
    state.at = n;
    tip.hidden = n < 0;
    if (n >= 0) {
      const [x, y] = toScreen(n);
      fill(tip, thumb(map.ids[n]), h("span", {}, h("strong", {}, map.titles[n]), h("span", {}, map.genres[n])));
      tip.href = trailerLink(map.ids[n]);
      tip.classList.toggle("left", x > width / 2);
      tip.classList.toggle("up", y > height / 2);
      tip.style.setProperty("--x", `${x}px`);
      tip.style.setProperty("--y", `${y}px`);
      if (isSpoken) announce(`${map.titles[n]}, ${map.genres[n]}`);
    }
    later();
  }

  function zoom(factor, x = width / 2, y = height / 2) {
    const before = Math.min(width, height) / 2 - 18;
    const wanted = Math.min(MAX_ZOOM, Math.max(1, state.zoom * factor));
    const [dx, dy] = [(x - width / 2) / (before * stretch()), (height / 2 - y) / before];
    state.x += dx / state.zoom - dx / wanted;
    state.y += dy / state.zoom - dy / wanted;
    state.zoom = wanted;
    if (wanted === 1) [state.x, state.y] = [0, 0];
    point(-1);
    later();
  }

  function step(dx, dy) {
    if (state.at < 0) return point(nearest(width / 2, height / 2, Infinity), true);
    const [x, y] = toScreen(state.at);
    let [best, least] = [-1, Infinity];
    for (let n = 0; n < map.ids.length; n++) {
      if (n === state.at || (state.genre && map.genres[n] !== state.genre)) continue;
      const [px, py] = toScreen(n);
      const along = (px - x) * dx + (py - y) * dy;
      const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      if (along > 0 && aside <= along && along + aside < least) [best, least] = [n, along + aside];
    }
    if (best >= 0) point(best, true);
  }

  const fingers = new Map();
  let dragged = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    dragged = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const old = fingers.get(event.pointerId);
    if (!old) return point(nearest(event.offsetX, event.offsetY));
    const others = [...fingers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const [ox, oy] = others[0][1];
      const [was, is] = [Math.hypot(old[0] - ox, old[1] - oy), Math.hypot(event.offsetX - ox, event.offsetY - oy)];
      if (was > 0) zoom(is / was, (ox + event.offsetX) / 2, (oy + event.offsetY) / 2);
    } else {
      const scale = (Math.min(width, height) / 2 - 18) * state.zoom;
      state.x -= (event.offsetX - old[0]) / (scale * stretch());
      state.y += (event.offsetY - old[1]) / scale;
    }
    dragged += Math.hypot(event.offsetX - old[0], event.offsetY - old[1]);
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (dragged > 4) point(-1);
    later();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
    fingers.delete(event.pointerId);
    if (name === "pointercancel" || dragged > 4) return;
    const n = nearest(event.offsetX, event.offsetY);
    if (event.pointerType === "mouse" && n >= 0) location.hash = trailerLink(map.ids[n]);
    else point(n, true); // a finger first sees what it touched; the card leads on
  });
  canvas.addEventListener("pointerleave", (event) => { if (!fingers.size && event.relatedTarget !== tip && !tip.contains(event.relatedTarget)) point(-1); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) step(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.6);
    else if (event.key === "-") zoom(1 / 1.6);
    else if (event.key === "Enter" && state.at >= 0) location.hash = trailerLink(map.ids[state.at]);
    else if (event.key === "Escape") point(-1);
    else return;
    event.preventDefault();
  });

  function showChips() {
    fill(chips, [...colours].map(([genre, n]) => {
      const made = chip(genre || "no genre", null, genre === state.genre, () => {
        state.genre = genre === state.genre ? "" : genre;
        point(-1);
        showChips();
        later();
      });
      made.prepend(h("i", { class: `dot g${n}` }));
      return made;
    }));
  }
  showChips();
  new ResizeObserver(([entry]) => {
    ({ width, height } = entry.contentRect);
    later();
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later, { signal });
  return h("div", {},
    head("Map", `${number(map.ids.length)} trailers. Those near each other look and sound alike; the two directions show ${percent(map.explained[0] + map.explained[1])} of all differences.`),
    chips, box,
    h("p", { id: "how", class: "soft how" }, "Scroll or pinch to come closer, drag to move. With the keyboard: arrows go from trailer to trailer, Enter opens one."));
}

function colourOf(genres) {
  const counts = new Map();
  for (const genre of genres) counts.set(genre, (counts.get(genre) ?? 0) + 1);
  const largest = [...counts].sort((a, b) => b[1] - a[1]).map(([genre]) => genre);
  return new Map(largest.map((genre, n) => [genre, Math.min(n, N_COLOURS)]));
}
