"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const PRINT_WIDTH = 680;
  const BAR = 22;
  const barred = matchMedia("(hover: hover)").matches;

  // ---- Colours -------------------------------------------------------------------------------------------------

  const withOpacity = (hex, percent) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${percent / 100})`;
  };

  const chrome = data.chrome;

  const colour = (token, theme) => {
    const [name, opacity] = token.slice(1).split("/");
    const hex = name === "ink" ? chrome[theme].ink : data.tones[name][theme];
    return opacity ? withOpacity(hex, Number(opacity)) : hex;
  };

  /** A deep copy with the colours of the theme in place of "@tone". */
  const painted = (item, theme) => {
    if (typeof item === "string") return item.startsWith("@") ? colour(item, theme) : item;
    if (Array.isArray(item)) return item.map((inner) => painted(inner, theme));
    if (item === null || typeof item !== "object") return item;
    return Object.fromEntries(Object.entries(item).map(([key, inner]) => [key, painted(inner, theme)]));
  };

  const STYLED = new Set(["line", "marker", "error_y", "fillcolor"]);

  /** Paint only what holds colours: names and categories may begin with "@" themselves. */
  const paintedTrace = (trace, theme) =>
    Object.fromEntries(Object.entries(trace).map(([key, value]) => [key, STYLED.has(key) ? painted(value, theme) : value]));

  // ---- Figures -------------------------------------------------------------------------------------------------

  const hidden = (plot) =>
    new Set(
      [...plot.closest("figure").querySelectorAll(".legend button[aria-pressed=false]")].map((b) => b.dataset.key),
    );

  const axis = (kind, look) => ({
    type: kind.log ? "log" : kind.categories?.length ? "category" : "linear",
    automargin: true,
    gridcolor: look.grid,
    linecolor: look.axis,
    showline: true,
    zeroline: false,
    ticks: "outside",
    ticklen: 4,
    tickcolor: look.axis,
    tickfont: { color: look.muted, size: 12 },
    nticks: 6,
    exponentformat: "power",
    // Whole powers of ten where there is room for them, and a mark for each where not every one has a label.
    ...(kind.log && kind.decades >= 1.6 ? { dtick: Math.ceil(kind.decades / 5), minor: { dtick: 1, ticks: "outside" } } : {}),
    ...(kind.categories?.length ? { categoryorder: "array", categoryarray: kind.categories, showgrid: false } : {}),
  });

  const layout = (plot, spec, theme, width) => {
    const look = chrome[theme];
    const off = hidden(plot);
    return {
      ...(width ? { width, autosize: false } : { autosize: true }),
      height: (plot.closest(".panels").dataset.count === "1" ? 360 : 290) + (barred ? BAR : 0),
      // The tool bar appears in the margin, above the points.
      margin: { l: 48, r: 12, t: 8 + (barred ? BAR : 0), b: 36 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look.muted, activecolor: look.ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: look.ink },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: look.surface, bordercolor: look.axis, font: { color: look.ink, size: 13 }, namelength: 60 },
      // A finger that drags wants to scroll the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      bargap: 0.25,
      bargroupgap: 0.08,
      xaxis: axis(spec.x, look),
      yaxis: axis(spec.y, look),
      shapes: spec.shapes.map(({ key, ...shape }) => ({ ...painted(shape, theme), visible: !off.has(key) })),
    };
  };

  const drawUnguarded = (plot, theme, width) => {
    const spec = data.panels[plot.id];
    const off = hidden(plot);
    const traces = spec.traces.map(({ key, ...trace }) => ({ ...paintedTrace(trace, theme), visible: !off.has(key) }));
    const config = {
      responsive: true,
      displaylogo: false,
      displayModeBar: barred ? "hover" : false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "sendChartToCloud"],
      toImageButtonOptions: { format: "svg", filename: plot.id },
    };
    plot.dataset.drawn = "true";
    return Plotly.react(plot, traces, layout(plot, spec, theme, width), config);
  };

  /** One figure that the library refuses must not keep the others from being drawn. */
  const draw = (plot, theme = root.dataset.theme, width = 0) => {
    const refuse = (error) => {
      plot.textContent = `This figure cannot be drawn: ${error.message}`;
      plot.dataset.drawn = "failed";
    };
    if (plot.dataset.drawn === "failed") return;
    try {
      drawUnguarded(plot, theme, width).catch(refuse);
    } catch (error) {
      refuse(error);
    }
  };

  const drawn = () => plots.filter((plot) => plot.dataset.drawn === "true");

  if (new URLSearchParams(location.search).has("all") || !("IntersectionObserver" in window)) {
    plots.forEach((plot) => draw(plot));
  } else {
    const observer = new IntersectionObserver(
      (seen) => {
        for (const { target, isIntersecting } of seen) {
          if (isIntersecting) {
            observer.unobserve(target);
            if (target.dataset.drawn !== "true") draw(target);
          }
        }
      },
      { rootMargin: "600px 0px" },
    );
    plots.forEach((plot) => observer.observe(plot));
  }

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      for (const plot of button.closest("figure").querySelectorAll(".plot[data-drawn=true]")) draw(plot);
    });
  }

  // ---- Theme ---------------------------------------------------------------------------------------------------

  const toggle = document.getElementById("theme");
  const label = document.getElementById("theme-label");
  const show = (theme) => {
    root.dataset.theme = theme;
    label.textContent = theme === "dark" ? "Light page" : "Dark page";
    drawn().forEach((plot) => draw(plot));
  };
  toggle.hidden = false;
  label.textContent = root.dataset.theme === "dark" ? "Light page" : "Dark page";
  toggle.addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("nonsmooth-theme", theme); } catch { /* storage is switched off: this page only */ }
    show(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    let chosen = null;
    try { chosen = localStorage.getItem("nonsmooth-theme"); } catch { /* storage is switched off */ }
    if (!chosen) show(event.matches ? "dark" : "light");
  });

  // ---- Paper ---------------------------------------------------------------------------------------------------

  let before = null;
  addEventListener("beforeprint", () => {
    before = { theme: root.dataset.theme, open: [...document.querySelectorAll("details[open]")] };
    root.dataset.theme = "light";
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    for (const plot of plots) {
      const columns = Math.min(2, Number(plot.closest(".panels").dataset.count));
      draw(plot, "light", Math.floor(PRINT_WIDTH / columns) - 16);
    }
  });
  addEventListener("afterprint", () => {
    if (!before) return;
    document.querySelectorAll("details").forEach((details) => { details.open = before.open.includes(details); });
    show(before.theme);
    before = null;
  });

  // ---- Filter of the summary -----------------------------------------------------------------------------------

  const filters = document.getElementById("filters");
  const rows = [...document.querySelectorAll(".summary tbody tr")];
  filters.hidden = false;
  filters.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    for (const other of filters.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    const wanted = button.dataset.filter;
    for (const row of rows) row.hidden = wanted !== "" && row.dataset.verdict !== wanted;
    document.getElementById("filtered").textContent = `${rows.filter((row) => !row.hidden).length} claims shown`;
  });

  // ---- Menu: open beside a wide page, folded above a narrow one --------------------------------------------------

  const menu = document.getElementById("menu");
  const wide = matchMedia("(min-width: 82rem)");
  const fold = () => { menu.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  menu.addEventListener("click", (event) => { if (event.target.closest("a")) fold(); });

  // ---- Contents: where the reader is ---------------------------------------------------------------------------

  const links = new Map(
    [...document.querySelectorAll(".contents a[href^='#']")].map((link) => [link.getAttribute("href").slice(1), link]),
  );
  const sections = [...document.querySelectorAll("main > section")];
  const mark = () => {
    const current = sections.findLast((section) => section.getBoundingClientRect().top < innerHeight / 3);
    for (const link of links.values()) link.removeAttribute("aria-current");
    if (current) links.get(current.id)?.setAttribute("aria-current", "true");
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();
})();
