"use strict";
// Draws the report's figures: colours follow the reader's light or dark, each line has a switch of its own.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const palettes = read("palettes");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 640px)");
  const figures = new Map();
  const DASHES = { solid: "", dot: "2 3", dash: "6 4", dashdot: "7 3 2 3", longdash: "10 4", longdashdot: "10 4 2 4" };
  const KIND_NAMES = {
    "guest": "Guest in total", "guest-vcpu": "Guest, each line", "cpu-process": "QEMU CPU", "cpu-vcpu": "vCPU threads",
    "cpu-migration": "Migration thread", "throttle": "Throttle", "remaining": "Remaining", "dirty": "Dirty rate",
    "bandwidth": "Bandwidth", "cap": "Cap", "iterations": "Iterations", "blackout": "Blackout",
    "cpu-multifd": "Multifd threads", "cpu-return-path": "Return path", "cpu-post-copy": "Post-copy thread",
    "cpu-main": "Main threads", "cpu-io": "I/O threads",
  };

  // "@name" or "@name/0.2" -> a colour of the palette in force
  const colour = (word) => {
    const [name, opacity] = word.slice(1).split("/");
    const hex = palettes[dark.matches ? "dark" : "light"][name];
    if (!opacity) return hex;
    const part = (at) => parseInt(hex.slice(at, at + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
  };
  const coloured = (value, key) => {
    if (typeof value === "string") return value.startsWith("@") && /colou?r$/i.test(key) ? colour(value) : value;
    if (Array.isArray(value)) return /^(x|y|base|text|hovertext)$/.test(key) ? value : value.map((one) => coloured(one, key));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, coloured(inner, name)]));
    return value;
  };

  // an axis on which nothing is shown now would only mislead; a logarithmic one has a label at each power of ten
  const axisNow = (figure, name, axis) => {
    const used = figure.data.some((trace) => `y${name.slice(5)}` === trace.yaxis && trace.visible === true);
    const steps = axis.type === "log"
      ? { dtick: 1, tickformat: ",~r", minor: { dtick: "D1", ticks: "outside", ticklen: 3, tickcolor: colour("@grid") } } : {};
    return { ...axis, ...steps, visible: used };
  };
  const AXES = ["yaxis", "yaxis2", "yaxis3", "yaxis4"];

  const layoutNow = (figure) => {
    const layout = coloured(figure.layout, "layout");
    for (const name of AXES) layout[name] = axisNow(figure, name, layout[name]);
    if (narrow.matches) {
      layout.margin = { ...layout.margin, l: 46, r: 40 };
      layout.font = { ...layout.font, size: 10 };
      for (const axis of AXES)
        layout[axis] = { ...layout[axis], title: { ...layout[axis].title, standoff: 0, font: { ...layout[axis].title.font, size: 10 } }, nticks: 5 };
      layout.xaxis = { ...layout.xaxis, nticks: 6 };
    }
    return layout;
  };
  // named one by one: among Plotly's own choice is a button that would hand the data to a site of theirs
  const BUTTONS = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]];
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: BUTTONS,
                   toImageButtonOptions: { format: "svg", filename: "migrascope" } };
  const show = (figure) => Plotly.react(figure.place, coloured(figure.data, "data"), layoutNow(figure), CONFIG);

  const draw = (figure) => {
    if (figure.drawn) return;
    figure.drawn = true;
    figure.place.replaceChildren();
    Plotly.newPlot(figure.place, coloured(figure.data, "data"), layoutNow(figure), CONFIG);
  };

  // --- the legend: one switch a line, grouped by run, and one switch a kind where there are several runs
  const sample = (trace) => {
    const line = trace.line || {};
    const mark = trace.marker && trace.marker.color;
    const stroke = line.color || (typeof mark === "string" ? mark : "@phase-migrate");
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    picture.setAttribute("viewBox", "0 0 24 10");
    picture.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(picture.namespaceURI, trace.mode === "markers" || trace.fill || trace.type === "bar" ? "rect" : "line");
    const set = (facts) => Object.entries(facts).forEach(([name, value]) => shape.setAttribute(name, value));
    if (trace.mode === "markers") set({ x: 9, y: 2, width: 6, height: 6, transform: "rotate(45 12 5)" });
    else if (trace.fill || trace.type === "bar") set({ x: 8, y: 0.5, width: 8, height: 9, "fill-opacity": 0.35, "stroke-width": 1.5 });
    else set({ x1: 0, y1: 5, x2: 24, y2: 5, "stroke-width": 2.4, "stroke-dasharray": DASHES[line.dash] || "" });
    shape.dataset.colour = stroke;
    picture.append(shape);
    return picture;
  };
  const paintSamples = () => document.querySelectorAll("[data-colour]").forEach((shape) => {
    shape.setAttribute("stroke", colour(shape.dataset.colour));
    if (shape.tagName === "rect") shape.setAttribute("fill", colour(shape.dataset.colour));
  });
  const button = (words, title, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.title = title;
    made.append(words);
    made.addEventListener("click", act);
    return made;
  };
  const switchTo = (figure, places, visible) => {
    places.forEach((place) => { figure.data[place].visible = visible ? true : "legendonly"; });
    figure.marks();
    show(figure);
  };
  const shown = (figure, places) => places.some((place) => figure.data[place].visible === true);

  const legend = (figure) => {
    const marks = [];
    const groups = new Map();
    const kinds = new Map();
    figure.data.forEach((trace, place) => {
      const run = trace.meta.run || "";
      const name = trace.meta.short || trace.name;
      if (!groups.has(run)) groups.set(run, new Map());
      const lines = groups.get(run);
      if (!lines.has(name)) lines.set(name, []);
      lines.get(name).push(place);
      if (!kinds.has(trace.meta.kind)) kinds.set(trace.meta.kind, []);
      kinds.get(trace.meta.kind).push(place);
    });
    const entry = (words, places, className, picture) => {
      const made = button(words, "Click: show or hide. Shift-click: only this one.", (event) => {
        if (event.shiftKey) {
          const all = figure.data.map((_, place) => place).filter((place) => figure.data[place].meta.kind !== "ribbon");
          all.forEach((place) => { figure.data[place].visible = "legendonly"; });
        }
        // a whole run comes back with those of its lines that were shown when it went
        const on = event.shiftKey || !shown(figure, places);
        const back = on && last.length && !event.shiftKey ? last : places;
        if (!on) last = places.filter((place) => figure.data[place].visible === true);
        switchTo(figure, back, on);
      });
      let last = [];
      if (picture) made.prepend(picture);
      made.className = className;
      marks.push(() => made.setAttribute("aria-pressed", String(shown(figure, places))));
      return made;
    };
    const rows = [];
    if (groups.size > 1) {
      const row = document.createElement("div");
      row.className = "kinds";
      row.append(Object.assign(document.createElement("span"), { className: "what", textContent: "All runs" }));
      for (const [kind, places] of kinds) row.append(entry(KIND_NAMES[kind], places, "kind"));
      rows.push(row);
    }
    const each = document.createElement("details");
    if (groups.size > 1) each.append(Object.assign(document.createElement("summary"), { textContent: "each line of each run" }));
    const runs = Object.assign(document.createElement("div"), { className: "runs" });
    for (const [run, lines] of groups) {
      const row = document.createElement("div");
      if (run) {
        const all = [...lines.values()].flat();
        const first = figure.data[all[0]];
        const picture = () => sample({ line: { color: (first.line || first.marker).color } });
        runs.append(entry(run, all, "run", picture()));
        row.append(Object.assign(document.createElement("span"), { className: "what", textContent: run }));
      }
      for (const [name, places] of lines) row.append(entry(name, places, "line", sample(figure.data[places[0]])));
      if (run) each.append(row);
      else rows.push(row);
    }
    if (groups.size > 1) rows.push(runs, each);
    const scale = button("", "The guest's axis: logarithmic or linear", () => {
      const log = figure.layout.yaxis.type !== "log";
      figure.layout.yaxis = { ...figure.layout.yaxis, type: log ? "log" : "linear", rangemode: log ? "normal" : "tozero", uirevision: String(log) };
      figure.marks();
      show(figure);
    });
    marks.push(() => { scale.textContent = figure.layout.yaxis.type === "log" ? "guest axis: log" : "guest axis: linear"; });
    const whole = button("whole run", "Undo zooming", () => Plotly.relayout(figure.place, Object.fromEntries(
      ["xaxis", ...AXES].map((axis) => [`${axis}.autorange`, true]))));
    const tools = document.createElement("div");
    tools.className = "tools";
    tools.append(whole, scale);
    rows.push(tools);
    figure.marks = () => marks.forEach((mark) => mark());
    figure.marks();
    figure.legend.replaceChildren(...rows);
  };

  for (const source of document.querySelectorAll("script[data-figure]")) {
    const place = document.getElementById(source.dataset.figure);
    const figure = { ...JSON.parse(source.textContent), place, legend: place.previousElementSibling, drawn: false };
    figures.set(source.dataset.figure, figure);
  }
  for (const figure of figures.values())
    figure.data = figure.data.map((trace) => trace.from ? { ...figures.get(`run-${trace.from[0]}`).data[trace.from[1]], ...trace } : trace);

  const near = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    near.unobserve(entry.target);
    draw(figures.get(entry.target.id));
  }), { rootMargin: "600px" });
  for (const figure of figures.values()) {
    legend(figure);
    near.observe(figure.place);
  }
  paintSamples();
  const redraw = () => { paintSamples(); figures.forEach((figure) => figure.drawn && show(figure)); };
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => figures.forEach(draw));
})();
