// Draws the plots in the page's colours, sorts tables, and changes between light and dark. Everything that it shows is
// in the page already; nothing is fetched.
"use strict";
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 36rem)");
  const PAPER = 980; // pixels between the margins of a sheet of A4 on its side
  let paper = false;
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    toImageButtonOptions: { format: "svg" },
  };
  const plots = [...document.querySelectorAll("script[data-plot]")].map((script) => ({
    place: document.getElementById(script.dataset.plot),
    views: JSON.parse(script.textContent),
    view: 0,
  }));

  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function template() {
    const [ink, faint, grid, raised] = ["--ink", "--faint", "--grid", "--raised"].map(colour);
    const axis = { gridcolor: grid, linecolor: faint, zerolinecolor: faint, tickcolor: faint, ticks: "outside" };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 13 },
        hoverlabel: { bgcolor: raised, bordercolor: faint, font: { color: ink } },
        modebar: { color: faint, activecolor: ink, bgcolor: "rgba(0,0,0,0)" },
        xaxis: axis,
        yaxis: axis,
      },
    };
  }

  // Error bars across coloured bars take the text colour.
  function dressed(trace) {
    const made = { ...trace };
    if (narrow.matches && trace.type === "treemap") made.texttemplate = "%{label}";
    if (trace.error_x) made.error_x = { ...trace.error_x, color: colour("--ink") };
    return made;
  }

  function layout(view) {
    const made = { ...view.layout, template: template() };
    if (paper) Object.assign(made, { width: PAPER, autosize: false });
    if (narrow.matches) made.margin = { ...made.margin, l: 44, r: 8 };
    return made;
  }

  function draw(plot) {
    const view = plot.views[plot.view];
    plot.place.setAttribute("aria-label", view.said);
    return Plotly.react(plot.place, view.data.map(dressed), layout(view), config);
  }

  function drawAll() {
    return Promise.all(plots.map(draw)).then(() => (root.dataset.drawn = String(plots.length)));
  }

  for (const choice of document.querySelectorAll("select[data-for]")) {
    const plot = plots.find((one) => one.place.id === choice.dataset.for);
    choice.addEventListener("change", () => {
      plot.view = choice.selectedIndex;
      draw(plot);
    });
  }

  const toggle = document.getElementById("theme");
  const name = () => (toggle.textContent = dark() ? "Light colours" : "Dark colours");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    name();
    drawAll();
  });
  for (const query of [system, narrow]) {
    query.addEventListener("change", () => {
      name();
      drawAll();
    });
  }
  // Paper is white, and as wide as it is: the style sheet says so to the tables, this to the plots.
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    paper = true;
    root.dataset.theme = "light";
    drawAll();
  });
  addEventListener("afterprint", () => {
    paper = false;
    if (before === undefined) delete root.dataset.theme;
    else root.dataset.theme = before;
    drawAll();
  });

  // Rows without a number, and those that stand apart, stay below whichever way a column is sorted.
  function sort(table, place, order) {
    const body = table.tBodies[0];
    const key = (row) => {
      const cell = row.cells[place];
      return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent;
    };
    const rank = (row) => (row.classList.contains("apart") ? 2 : key(row) === "" || key(row) === "-" ? 1 : 0);
    const compare = (a, b) => {
      const [one, two] = [key(a), key(b)];
      const numbers = typeof one === "number" && typeof two === "number";
      return (numbers ? one - two : String(one).localeCompare(String(two))) * (order === "ascending" ? 1 : -1);
    };
    const rows = [...body.rows].sort((a, b) => rank(a) - rank(b) || compare(a, b));
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table.sorts")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      head.querySelector("button").addEventListener("click", () => {
        const numeric = place > 0 && [...table.tBodies[0].rows].some((row) => "key" in row.cells[place].dataset);
        const first = numeric ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        sort(table, place, order);
        document.getElementById("said").textContent = `Sorted by ${head.textContent}, ${order}`;
      });
    });
  }

  name();
  drawAll();
})();
