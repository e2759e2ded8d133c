// Reads the values of a chart's lines under the pointer.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const charts = JSON.parse(document.getElementById("data").textContent).charts;

  const make = (name, attributes, parent) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  };

  const text = (value) => {
    if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-4)) return value.toExponential(3);
    return value.toLocaleString("en-US", { maximumSignificantDigits: Math.abs(value) >= 1e4 ? 7 : 4 });
  };

  const scale = (low, high, from, to, log) => {
    const f = log ? Math.log : (v) => v;
    return (v) => from + ((f(v) - f(low)) / (f(high) - f(low))) * (to - from);
  };

  const nearest = (sorted, wanted, place) => {
    let best = 0;
    for (let i = 1; i < sorted.length; i++) {
      if (Math.abs(place(sorted[i]) - wanted) < Math.abs(place(sorted[best]) - wanted)) best = i;
    }
    return best;
  };

  for (const figure of document.querySelectorAll(".chart")) {
    const lines = charts[figure.dataset.chart];
    const plot = figure.querySelector(".plot");
    if (!lines || !lines.some(([x]) => x.length)) continue;
    const numbers = (name) => plot.getAttribute(`data-${name}`).split(" ").map(Number);
    const [left, top, right, bottom] = numbers("box");
    const toX = scale(...numbers("x"), left, right, plot.hasAttribute("data-log-x"));
    const toY = scale(...numbers("y"), bottom, top, plot.hasAttribute("data-log-y"));
    const values = [...figure.querySelectorAll(".now")];
    const at = figure.querySelector(".at");
    const initial = values.map((v) => v.textContent);
    const xLabel = figure.dataset.xLabel;

    const overlay = make("svg", { viewBox: plot.getAttribute("viewBox"), class: "overlay", "aria-hidden": "true" }, figure.querySelector(".plot-box"));
    const marks = make("g", { visibility: "hidden" }, overlay);
    const rule = make("line", { y1: top, y2: bottom }, marks);
    const dots = lines.map((_, i) => make("circle", { r: 4, fill: `var(--series-${(i % 8) + 1})` }, marks));

    overlay.addEventListener("pointermove", (event) => {
      const box = overlay.getBoundingClientRect();
      const pointer = ((event.clientX - box.left) / box.width) * overlay.viewBox.baseVal.width;
      const points = lines.map(([x, y]) => {
        if (!x.length) return null;
        const i = nearest(x, pointer, toX);
        return [x[i], y[i]];
      });
      const known = points.filter(Boolean);
      const x = known[nearest(known.map((p) => p[0]), pointer, toX)][0];
      rule.setAttribute("x1", toX(x));
      rule.setAttribute("x2", toX(x));
      points.forEach((point, i) => {
        // A run that ended earlier has no value here.
        const shown = point && Math.abs(toX(point[0]) - toX(x)) < 6;
        dots[i].setAttribute("visibility", shown ? "inherit" : "hidden");
        if (shown) {
          dots[i].setAttribute("cx", toX(point[0]));
          dots[i].setAttribute("cy", toY(point[1]));
        }
        if (values[i]) values[i].textContent = shown ? text(point[1]) : "–";
      });
      if (at) at.textContent = `${xLabel} ${text(x)}`;
      marks.setAttribute("visibility", "visible");
    });
    overlay.addEventListener("pointerleave", () => {
      marks.setAttribute("visibility", "hidden");
      values.forEach((v, i) => { v.textContent = initial[i]; });
      if (at) at.textContent = "last";
    });
  }
})();
