// Charts: <canvas data-chart data-source="ID of a json_script" data-series="[{key, label, tone}]">. The data is
// {labels: [...], key: [...]}; labels that are ISO dates are written in the language of the page. data-chart="bars" piles
// the series up, and a chart of several series names them below. A part that htmx brings has no scripts: there the data
// is in data-values.

const language = document.documentElement.lang || "en";
const count = new Intl.NumberFormat(language);
const compact = new Intl.NumberFormat(language, { notation: "compact" });
const charts = [];

// Tokens are light-dark() pairs: only a real element knows which of the two holds now.
function colour(token) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function faded(value, alpha) {
  const [r, g, b] = value.match(/[\d.]+/g);
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

function writeLabel(label, form = { day: "numeric", month: "short" }) {
  if (!/^\d{4}-\d\d-\d\d$/.test(label)) return label;
  return new Intl.DateTimeFormat(language, { ...form, timeZone: "UTC" }).format(new Date(`${label}T00:00:00Z`));
}

function fill(context, tint) {
  const { chart } = context;
  if (!chart.chartArea) return "transparent";
  const gradient = chart.ctx.createLinearGradient(0, chart.chartArea.top, 0, chart.chartArea.bottom);
  gradient.addColorStop(0, faded(tint, 0.24));
  gradient.addColorStop(1, faded(tint, 0));
  return gradient;
}

function dataset(data, { key, label, tone }) {
  const tint = colour(tone);
  return {
    label,
    data: data[key],
    borderColor: tint,
    backgroundColor: (context) => fill(context, tint),
    pointHoverBackgroundColor: tint,
    pointHoverBorderColor: colour("surface"),
    pointHoverBorderWidth: 2,
    pointHoverRadius: 5,
    // A line through one point cannot be seen.
    pointRadius: data.labels.length > 1 ? 0 : 4,
    pointBackgroundColor: tint,
    borderWidth: 2,
    cubicInterpolationMode: "monotone",
    fill: true,
  };
}

function bars(data, { key, label, tone }) {
  return { label, data: data[key], backgroundColor: colour(tone), maxBarThickness: 40, borderRadius: 2 };
}

function options(labels, { piled, several }) {
  const faint = colour("text-faint");
  const ticks = { color: faint, maxRotation: 0, autoSkipPadding: 28 };
  return {
    maintainAspectRatio: false,
    animation: matchMedia("(prefers-reduced-motion: reduce)").matches ? false : { duration: 500 },
    interaction: { mode: "index", intersect: false },
    scales: {
      x: { stacked: piled, grid: { display: false }, border: { color: colour("line") }, ticks: { ...ticks, callback: (_, i) => writeLabel(labels[i]) } },
      y: {
        stacked: piled,
        beginAtZero: true,
        suggestedMax: 10,
        grid: { color: colour("line") },
        border: { display: false },
        ticks: { color: faint, precision: 0, maxTicksLimit: 5, callback: (value) => compact.format(value) },
      },
    },
    plugins: {
      legend: {
        display: several,
        position: "bottom",
        labels: { color: colour("text-soft"), usePointStyle: true, boxHeight: 7, padding: 16 },
      },
      tooltip: {
        backgroundColor: colour("raised"),
        borderColor: colour("line"),
        borderWidth: 1,
        titleColor: colour("text"),
        bodyColor: colour("text-soft"),
        padding: 10,
        cornerRadius: 8,
        boxPadding: 6,
        usePointStyle: true,
        callbacks: {
          title: ([item]) => writeLabel(labels[item.dataIndex], { weekday: "short", day: "numeric", month: "long" }),
          label: (item) => ` ${item.dataset.label}: ${count.format(item.raw)}`,
        },
      },
    },
  };
}

function draw(canvas) {
  const { source, values } = canvas.dataset;
  const data = JSON.parse(values ?? document.getElementById(source).textContent);
  const series = JSON.parse(canvas.dataset.series);
  const piled = canvas.dataset.chart === "bars";
  charts.push(new Chart(canvas, {
    type: piled ? "bar" : "line",
    data: { labels: data.labels, datasets: series.map((one) => (piled ? bars : dataset)(data, one)) },
    options: options(data.labels, { piled, several: series.length > 1 }),
  }));
  canvas.dataset.drawn = "";
}

function drawAll() {
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  while (charts.length) charts.pop().destroy();
  document.querySelectorAll("canvas[data-chart]").forEach(draw);
}

document.fonts.load("12px Inter").then(() => document.fonts.ready).then(() => {
  drawAll();
  document.addEventListener("portal:theme", drawAll);
  // Charts that came later, with a part of the page.
  document.addEventListener("htmx:afterSettle", ({ target }) => {
    if (target.querySelector("canvas[data-chart]:not([data-drawn])")) drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
});
