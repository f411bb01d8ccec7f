// The page of `cover serve`: plain JavaScript, no library. All text goes in as text, never as markup.

const COLORS = ["#1c7ed6", "#e8590c", "#2f9e44", "#9c36b5", "#c2255c", "#0c8599", "#f08c00", "#5c940d"];
const TOKEN = "cover-token";
const MAX_LANES = 8; // classes of a head in the timeline: those that are seen longest

const $ = (id) => document.getElementById(id);
let limits, headNames = [], sigmoidHeads = [], chosen = null, round = 0; // round: answers to an older file are dropped

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("the server does not answer, or has stopped the upload");
  }
  if (answer.status === 401) $("token-form").hidden = false;
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  throw new Error(error);
}

const colorOf = (head) => COLORS[headNames.indexOf(head) % COLORS.length];
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const width = (share) => `${100 * share}%`; // for CSS, which wants no space
const seconds = (value) => `${value.toFixed(1)} s`;
const show = (id, visible = true) => ($(id).hidden = !visible);

function fail(error) {
  $("error").textContent = error.message;
  show("error");
  $("status").textContent = "";
}

// Do what the user asked for: show that it is in progress, then its result or its error.
async function work(text, todo) {
  const mine = round;
  show("error", false);
  $("status").textContent = text;
  try {
    const done = await todo();
    if (mine !== round) return;
    $("status").textContent = "";
    done?.();
  } catch (error) {
    if (mine === round) fail(error);
  }
}

function query(values) {
  const parameters = new URLSearchParams(values);
  const heads = [...document.querySelectorAll("#heads input:checked")].map((box) => box.value);
  if (heads.length < headNames.length) heads.forEach((head) => parameters.append("head", head));
  return parameters;
}

async function post(path, parameters) {
  const body = new FormData();
  body.append("file", chosen.blob, chosen.name);
  return (await ask(`${path}?${parameters}`, { method: "POST", body })).json();
}

function choose(blob, name, about = name) {
  round += 1;
  ["results", "timeline", "explanation"].forEach((id) => show(id, false));
  if (blob.size > limits.max_bytes) {
    fail(new Error(`${name} has ${blob.size.toLocaleString()} bytes; ${limits.max_bytes.toLocaleString()} are allowed`));
    return;
  }
  chosen = { blob, name, about };
  predict();
}

function predict() {
  work(`Looking at ${chosen.name} …`, async () => {
    const answer = await post("predict", query({ top: 5 }));
    return () => showPredictions(answer);
  });
}

function showPredictions({ kind, heads }) {
  if (chosen.kind === undefined) showPreview(kind);
  chosen.kind = kind;
  $("about").textContent = `${chosen.about} (${kind})`;
  show("timeline-form", kind === "video");
  $("predictions").replaceChildren(...Object.entries(heads).map(([head, classes]) => card(head, classes)));
  show("results");
}

function showPreview(kind) {
  const url = URL.createObjectURL(chosen.blob);
  const media = element(kind === "video" ? "video" : "img", { src: url, controls: true, muted: true, loop: true });
  media.playsInline = true;
  media.alt = "";
  media.onerror = () => media.replaceWith(element("p", { className: "soft", textContent: "no preview here" }));
  $("preview").replaceChildren(media);
}

function card(head, classes) {
  const bars = classes.map((scored) => {
    const why = element("button", { type: "button", textContent: "why?", onclick: () => explain(head, scored.class) });
    why.setAttribute("aria-label", `Why ${scored.class}?`);
    const fill = element("div");
    fill.style.width = width(scored.probability);
    return element(
      "div",
      { className: "bar" },
      element("span", { className: "name", textContent: scored.class }),
      element("span", { className: "percent", textContent: percent(scored.probability) }),
      why,
      element("div", { className: "track" }, fill),
    );
  });
  const alone = sigmoidHeads.includes(head);
  const note = alone ? [element("p", { className: "soft", textContent: "each class has a probability of its own" })] : [];
  const made = element("article", { className: "card" }, element("h2", { textContent: head }), ...note, ...bars);
  made.style.setProperty("--color", colorOf(head));
  return made;
}

function explain(head, name) {
  work(`Asking what spoke for ${name} …`, async () => {
    const answer = await post("explain", new URLSearchParams({ head, class: name }));
    return () => showExplanation(answer);
  });
}

function showExplanation(answer) {
  $("explanation-title").textContent = `Why ${answer.class}? (${answer.head})`;
  const orders = { "played backwards": answer.backwards, "frozen at its strongest frame": answer.frozen };
  const changes = Object.entries(orders).filter(([, order]) => order);
  const parts = changes.map(([name, order]) => `${name}: ${percent(order.probability)}`);
  $("explanation-text").textContent = [`centre view: ${percent(answer.probability)}`, ...parts].join(" · ");
  $("strip").src = `data:image/png;base64,${answer.strip_png}`;
  show("overlay", Boolean(answer.overlay_mp4));
  if (answer.overlay_mp4) $("overlay").src = `data:video/mp4;base64,${answer.overlay_mp4}`;
  reveal("explanation");
}

function askTimeline() {
  work("Going through the video …", async () => {
    const answer = await post("timeline", query({ window_seconds: $("window").value }));
    return () => showTimeline(answer);
  });
}

function showTimeline({ duration_seconds: duration, heads }) {
  const lanes = Object.entries(heads).flatMap(([head, segments]) => {
    const longest = new Map();
    for (const { class: name, start_seconds, end_seconds, probability } of segments)
      longest.set(name, (longest.get(name) ?? 0) + probability * (end_seconds - start_seconds));
    const names = [...longest.keys()].sort((a, b) => longest.get(b) - longest.get(a)).slice(0, MAX_LANES);
    const shown = names.map((name) => lane(head, name, segments.filter((each) => each.class === name), duration));
    return [element("h3", { textContent: head }), ...shown];
  });
  $("segments").replaceChildren(...lanes);
  $("duration").textContent = seconds(duration);
  reveal("timeline");
}

function lane(head, name, segments, duration) {
  const times = element("div", { className: "times" });
  for (const { start_seconds: start, end_seconds: end, probability } of segments) {
    const bar = element("div", { title: `${name} ${percent(probability)}, ${seconds(start)} to ${seconds(end)}` });
    bar.style.left = width(start / duration);
    bar.style.width = width((end - start) / duration);
    bar.style.opacity = 0.25 + 0.75 * probability;
    bar.onclick = () => {
      const video = document.querySelector("#preview video");
      if (video) video.currentTime = start;
    };
    times.append(bar);
  }
  times.style.setProperty("--color", colorOf(head));
  return element("div", { className: "lane" }, element("span", { className: "name", textContent: name, title: name }), times);
}

function reveal(id) {
  show(id);
  $(id).scrollIntoView({ behavior: "smooth", block: "nearest" });
}

function sampleButton(sample) {
  const picture = element("img", { src: sample.thumbnail, alt: "" });
  const name = element("span", { textContent: sample.class });
  const button = element("button", { type: "button" }, picture, name, element("span", { textContent: sample.dataset }));
  button.onclick = () =>
    work(`Fetching ${sample.class} …`, async () => {
      const blob = await (await ask(`samples/${sample.number}`)).blob();
      return () => choose(blob, "sample", `${sample.class}, a sample of ${sample.dataset}`);
    });
  return button;
}

function headChip(head) {
  const box = element("input", { type: "checkbox", value: head, checked: true });
  box.onchange = () => {
    if (!document.querySelector("#heads input:checked")) box.checked = true; // at least one head is needed
    if (chosen) predict();
  };
  return element("label", {}, box, head);
}

async function begin() {
  show("error", false);
  const { run, checkpoint, heads, sigmoid_heads, window_seconds, limits: given } = await (await ask("heads")).json();
  limits = given;
  headNames = Object.keys(heads);
  sigmoidHeads = sigmoid_heads;
  $("run").textContent = `${run}, ${checkpoint}`;
  const size = `${Math.floor(limits.max_bytes / 2 ** 20)} MiB`;
  $("window").value = window_seconds;
  $("limits").textContent = `up to ${size}, ${limits.max_seconds} s, ${limits.max_pixels / 1e6} megapixels`;
  $("heads").replaceChildren(...headNames.map(headChip));
  show("heads-field", headNames.length > 1);
  show("token-form", false);
  const samples = await (await ask("samples")).json();
  $("samples").replaceChildren(...samples.map(sampleButton));
  show("samples-section", samples.length > 0);
}

const drop = $("drop");
const take = (files) => files.length && limits && choose(files[0], files[0].name);
$("file").onchange = (event) => {
  take(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
};
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files);
  });
$("timeline-button").onclick = askTimeline;
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value);
  begin().catch(fail);
};
begin().catch(fail);
