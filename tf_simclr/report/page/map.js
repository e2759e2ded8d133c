// Draws the map of embeddings on a canvas: zoom, drag, pictures, search, groups.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent).map;
  const canvas = document.querySelector(".points");
  if (!data || !canvas) return;

  const uint16 = (base64) => new Uint16Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
  const positions = uint16(data.positions);
  const groups = Int32Array.from(uint16(data.groups), (g) => (g === 0xffff ? -1 : g));
  const count = groups.length;
  const lowerNames = data.names.map((name) => name.toLowerCase());
  const sprite = document.getElementById("map-sprite");
  const view = canvas.parentElement;
  const tip = view.querySelector(".tip");
  const tipPicture = tip.querySelector("canvas").getContext("2d");
  const status = document.getElementById("map-status");
  const buttons = [...document.querySelectorAll(".groups button")];
  const context = canvas.getContext("2d");
  const MAX_ZOOM = 60, MARGIN = 22, PICTURES = 220;

  // Groups would hide each other in the order of the data, so points are drawn in a mixed order.
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1, seed = 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }

  let width = 0, height = 0, ratio = 1;
  let zoom = 1, centerX = 0.5, centerY = 0.5; // of the map, in [0, 1]
  let inspected = -1, hits = [], stamps = new Map(), colors = {}, scheduled = false, pictures = false;
  const highlighted = new Set();

  const groupName = (g) => (g < 0 ? data.noGroup : data.groupNames[g] ?? "");
  const side = () => Math.max(1, Math.min(width, height) - 2 * MARGIN) * zoom;
  const screenX = (i) => width / 2 + (positions[2 * i] / 65535 - centerX) * side();
  const screenY = (i) => height / 2 - (positions[2 * i + 1] / 65535 - centerY) * side();

  function readColors() {
    stamps = new Map();
    const probe = getComputedStyle(canvas);
    colors.page = getComputedStyle(document.body).backgroundColor;
    colors.text = probe.color;
    colors.muted = getComputedStyle(status.parentElement.querySelector(".hint")).color;
    for (const button of buttons) {
      const path = button.querySelector("path");
      colors[button.dataset.group] = getComputedStyle(path).fill;
    }
  }

  // A point is drawn once for each group, and then copied.
  function stamp(group, radius, faded) {
    const key = `${group} ${radius} ${faded}`;
    if (stamps.has(key)) return stamps.get(key);
    const size = Math.ceil((radius + 1.5) * 2 * ratio);
    const picture = new OffscreenCanvas(size, size);
    const pen = picture.getContext("2d");
    pen.translate(size / 2, size / 2);
    pen.scale(radius * ratio, radius * ratio);
    const path = new Path2D(data.shapes[Math.max(group, 0) % data.shapes.length]);
    pen.globalAlpha = faded ? 0.16 : 0.85;
    pen.fillStyle = faded ? colors.muted : colors[group] || colors.muted;
    pen.fill(path);
    stamps.set(key, picture);
    return picture;
  }

  function isFaded(i) {
    return highlighted.size > 0 && !highlighted.has(groups[i]);
  }

  function draw() {
    scheduled = false;
    if (!width) return;
    const start = performance.now();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const seen = [];
    for (const i of order) {
      const x = screenX(i), y = screenY(i);
      if (x > -20 && y > -20 && x < width + 20 && y < height + 20) seen.push(i);
    }
    pictures = zoom > 2.5 && seen.length <= PICTURES && sprite.complete && sprite.naturalWidth > 0;
    const base = (count > 5000 ? 2.1 : count > 1000 ? 2.7 : 3.6) * Math.min(width / 500, 1.25);
    const radius = Math.round(10 * Math.min(7, base * zoom ** 0.35)) / 10;
    if (highlighted.size) seen.sort((a, b) => isFaded(b) - isFaded(a));
    for (const i of seen) {
      if (pictures && !isFaded(i)) { drawPicture(i); continue; }
      const picture = stamp(groups[i], radius, isFaded(i));
      context.drawImage(picture, Math.round(screenX(i) * ratio - picture.width / 2), Math.round(screenY(i) * ratio - picture.height / 2));
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const many = hits.length > 40;
    if (!pictures) for (const i of hits) ring(i, radius + (many ? 1.5 : 4), many ? 1 : 2, !many);
    if (inspected >= 0) ring(inspected, pictures ? 25 : radius + 6, 3);
    if (document.activeElement === canvas && canvas.matches(":focus-visible")) cross();
    canvas.dataset.drawMilliseconds = (performance.now() - start).toFixed(2);
    canvas.dataset.drawn = seen.length;
  }

  function drawPicture(i) {
    const size = 34 * ratio, x = Math.round(screenX(i) * ratio - size / 2), y = Math.round(screenY(i) * ratio - size / 2);
    const frame = (hits.includes(i) ? 4 : 2) * ratio;
    context.fillStyle = hits.includes(i) ? colors.text : colors[groups[i]] || colors.muted;
    context.fillRect(x - frame, y - frame, size + 2 * frame, size + 2 * frame);
    context.drawImage(sprite, ...source(i), x, y, size, size);
  }

  function source(i) {
    return [(i % data.columns) * data.side, Math.floor(i / data.columns) * data.side, data.side, data.side];
  }

  function ring(i, radius, thickness, halo = true) {
    context.beginPath();
    context.arc(screenX(i), screenY(i), radius, 0, 2 * Math.PI);
    context.lineWidth = thickness + 2;
    context.strokeStyle = colors.page;
    if (halo) context.stroke();
    context.lineWidth = thickness;
    context.strokeStyle = colors.text;
    context.stroke();
  }

  function cross() {
    context.beginPath();
    context.moveTo(width / 2 - 9, height / 2);
    context.lineTo(width / 2 + 9, height / 2);
    context.moveTo(width / 2, height / 2 - 9);
    context.lineTo(width / 2, height / 2 + 9);
    context.lineWidth = 1.5;
    context.strokeStyle = colors.text;
    context.stroke();
  }

  function schedule() {
    if (!scheduled) requestAnimationFrame(draw);
    scheduled = true;
  }

  function resize() {
    const box = view.getBoundingClientRect();
    width = view.clientWidth;
    height = view.clientHeight;
    ratio = Math.min(devicePixelRatio || 1, 3);
    if (!box.width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    stamps = new Map();
    draw();
  }

  function move(dx, dy) {
    centerX = Math.min(1, Math.max(0, centerX - dx / side()));
    centerY = Math.min(1, Math.max(0, centerY + dy / side()));
    schedule();
  }

  function zoomBy(factor, x = width / 2, y = height / 2) {
    const before = side();
    zoom = Math.min(MAX_ZOOM, Math.max(1, zoom * factor));
    // The point of the map under (x, y) stays there.
    const shift = 1 / before - 1 / side();
    centerX = Math.min(1, Math.max(0, centerX + (x - width / 2) * shift));
    centerY = Math.min(1, Math.max(0, centerY - (y - height / 2) * shift));
    if (zoom === 1) { centerX = centerY = 0.5; }
    canvas.classList.toggle("zoomed", zoom > 1);
    schedule();
  }

  function nearest(x, y, reach) {
    let best = -1, least = reach * reach;
    for (let i = 0; i < count; i++) {
      if (isFaded(i)) continue;
      const distance = (screenX(i) - x) ** 2 + (screenY(i) - y) ** 2;
      if (distance < least) { least = distance; best = i; }
    }
    return best;
  }

  function inspect(i, { aloud = false } = {}) {
    if (i !== inspected) { inspected = i; schedule(); }
    tip.hidden = i < 0;
    if (i < 0) return;
    tipPicture.clearRect(0, 0, 128, 128);
    if (sprite.complete && sprite.naturalWidth) tipPicture.drawImage(sprite, ...source(i), 0, 0, 128, 128);
    tip.querySelector(".tip-name").textContent = data.names[i];
    tip.querySelector(".tip-group").textContent = groupName(groups[i]);
    const x = screenX(i), y = screenY(i), box = tip.getBoundingClientRect(), away = pictures ? 30 : 16;
    tip.style.left = `${Math.max(4, Math.min(width - box.width - 4, x + away + box.width > width ? x - box.width - away : x + away))}px`;
    tip.style.top = `${Math.max(4, Math.min(height - box.height - 4, y - box.height / 2))}px`;
    if (aloud) status.textContent = `${data.names[i]}, ${groupName(groups[i])}`;
  }

  function inspectCenter() {
    inspect(nearest(width / 2, height / 2, Infinity), { aloud: true });
  }

  function goTo(i) {
    centerX = positions[2 * i] / 65535;
    centerY = positions[2 * i + 1] / 65535;
    zoom = Math.max(zoom, 4);
    canvas.classList.add("zoomed");
    draw();
    inspect(i, { aloud: true });
  }

  const pointers = new Map();
  const local = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 };
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, local(event));
    canvas.classList.add("dragging");
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = local(event);
    const last = pointers.get(event.pointerId);
    if (!last) { inspect(nearest(x, y, 14)); return; }
    const before = pointers.size === 2 ? spread() : null;
    pointers.set(event.pointerId, [x, y]);
    if (before) {
      const after = spread();
      move(after.x - before.x, after.y - before.y);
      zoomBy(after.distance / Math.max(before.distance, 1), after.x, after.y);
    } else {
      move(x - last[0], y - last[1]);
    }
    if (inspected >= 0) inspect(inspected);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) canvas.classList.remove("dragging");
      if (name === "pointerup") inspect(nearest(...local(event), 14));
    });
  }
  canvas.addEventListener("pointerleave", () => { if (!pointers.size) inspect(-1); });

  canvas.addEventListener("wheel", (event) => {
    // Before the map is clicked, the wheel scrolls the page; a pinch on a touchpad has ctrlKey.
    if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 18 : 1;
    zoomBy(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.002)), ...local(event));
    if (inspected >= 0) inspect(inspected);
  }, { passive: false });

  // The center may be empty, and a view of nothing would help nobody.
  function zoomIn() {
    zoomBy(1.6);
    const i = nearest(width / 2, height / 2, Infinity);
    const isOutside = i >= 0 && (Math.abs(screenX(i) - width / 2) > width / 2 - 20 || Math.abs(screenY(i) - height / 2) > height / 2 - 20);
    if (isOutside) {
      centerX = positions[2 * i] / 65535;
      centerY = positions[2 * i + 1] / 65535;
    }
  }

  const actions = { in: zoomIn, out: () => zoomBy(1 / 1.6), reset: () => zoomBy(0) };
  const keys = {
    ArrowLeft: () => move(60, 0),
    ArrowRight: () => move(-60, 0),
    ArrowUp: () => move(0, 60),
    ArrowDown: () => move(0, -60),
    "+": actions.in,
    "=": actions.in,
    "-": actions.out,
    0: actions.reset,
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { inspect(-1); return; }
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
    inspectCenter();
  });
  canvas.addEventListener("focus", schedule);
  canvas.addEventListener("blur", () => { inspect(-1); schedule(); });
  for (const button of view.querySelectorAll("[data-act]")) {
    button.addEventListener("click", () => { actions[button.dataset.act](); inspect(-1); });
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      const group = Number(button.dataset.group);
      highlighted.delete(group) || highlighted.add(group);
      button.setAttribute("aria-pressed", String(highlighted.has(group)));
      schedule();
    });
  }

  const input = document.getElementById("map-search");
  const results = document.querySelector(".results");
  const found = document.querySelector(".hits");
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    hits = wanted ? [...order.keys()].filter((i) => lowerNames[i].includes(wanted)) : [];
    const shown = hits.slice(0, 20);
    const number = hits.length.toLocaleString("en-US");
    found.textContent = !wanted ? "" : shown.length < hits.length ? `${number} images, the first 20 are listed` : `${number} ${hits.length === 1 ? "image" : "images"}`;
    results.replaceChildren(...shown.map((i) => {
      const item = document.createElement("li"), button = document.createElement("button"), name = document.createElement("bdi");
      name.textContent = data.names[i];
      button.type = "button";
      button.append(name);
      button.addEventListener("click", () => goTo(i));
      item.append(button);
      return item;
    }));
    // Rings around hundreds of points would hide the map.
    if (hits.length > 300) hits = shown;
    schedule();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && hits.length) goTo(hits[0]);
  });

  document.addEventListener("themechange", () => { readColors(); schedule(); });
  const printing = () => { readColors(); resize(); };
  matchMedia("print").addEventListener("change", printing);
  addEventListener("beforeprint", printing);
  addEventListener("afterprint", printing);
  sprite.addEventListener("load", schedule);
  readColors();
  new ResizeObserver(resize).observe(view);
  resize();
})();
