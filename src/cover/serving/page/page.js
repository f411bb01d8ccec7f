// The page of `cover serve`: plain JavaScript, no library.

import { breakable, clock, element, headCard, orders, percent, timeline } from "./draw.js";
import { get, post, setToken } from "./server.js";

const THEME = "cover-theme";
const LONG = 1.5; // a video of more windows than this is answered by its timeline first
const FINAL = new Set([400, 403, 413, 415, 421, 422]); // the same file gets the same answer

const $ = (id) => document.getElementById(id);
const show = (id, visible = true) => ($(id).hidden = !visible);
const narrow = matchMedia("(max-width: 760px)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let facts = null; // the answer of GET heads
let current = null; // the entry of this visit that is shown
let queue = Promise.resolve(); // files are answered one after the other
let follow = () => {}; // moves the timeline to a time of the video

// An entry of this visit: a file, the answers about it, and what is in progress or went wrong.

function add(files) {
  const entries = files.map(({ blob, name, about, kind }) => {
    const entry = { blob, name, about, kind: kind ?? (blob.type.startsWith("image/") ? "image" : "video") };
    entry.url = URL.createObjectURL(blob);
    entry.tile = visitTile(entry);
    return entry;
  });
  $("visit").prepend(...entries.map((entry) => entry.tile));
  if (!document.body.classList.contains("used")) begun();
  for (const entry of entries) {
    drawTile(entry, "waiting");
    queue = queue.then(() => run(entry, answer));
  }
  if (entries.length) select(entries[0]);
}

function begun() {
  document.body.classList.add("used");
  show("visit-section");
  show("heads-field", Object.keys(facts.heads).length > 1);
  if (!narrow.matches) return;
  if ($("samples").contains(document.activeElement)) $("samples-section").querySelector("summary").focus();
  $("samples-section").open = false;
}

// Ask something about an entry. An error belongs to the entry, and can be tried again.
async function run(entry, todo) {
  if (entry.progress) return;
  Object.assign(entry, { failure: null, progress: { text: `Uploading ${entry.name} …`, share: 0 } });
  drawTile(entry, "working …");
  draw(entry, drawState);
  try {
    await todo(entry);
  } catch (error) {
    entry.failure = { error, todo };
    show("token-form", error.status === 401);
  }
  entry.progress = null;
  drawTile(entry);
  draw(entry, drawState);
}

async function ask(entry, path, parameters, text) {
  const { max_bytes: most } = facts.limits;
  if (entry.blob.size > most) {
    const error = new Error(`it has ${mebibytes(entry.blob.size)}, and ${mebibytes(most)} are allowed; choose a smaller file`);
    throw Object.assign(error, { status: 413 });
  }
  return post(path, parameters, entry, (share) => {
    entry.progress = share < 1 ? { text: `Uploading ${entry.name} …`, share } : { text };
    draw(entry, drawState);
  });
}

async function answer(entry) {
  const prediction = await ask(entry, "predict", { top: 5 }, `Looking at ${entry.name} …`);
  entry.kind = prediction.kind;
  entry.isLong = prediction.duration_seconds > LONG * facts.window_seconds;
  try {
    if (entry.isLong) await askTimeline(entry, {});
  } finally {
    entry.prediction = prediction;
    draw(entry, drawAnswers, announce);
  }
}

async function askTimeline(entry, parameters) {
  entry.timeline = await ask(entry, "timeline", parameters, `Going through ${entry.name} …`);
  draw(entry, drawTimeline);
}

async function explain(entry, head, name) {
  const answered = await ask(entry, "explain", { head, class: name }, `Asking what spoke for ${name} …`);
  entry.explanation = answered;
  draw(entry, drawExplanation, () => reveal("explanation"));
}

// What is on the page. Each part is drawn only when it changes, so that the video plays on and the focus stays.

function draw(entry, ...parts) {
  if (entry === current) parts.forEach((part) => part(entry));
}

function select(entry) {
  current = entry;
  for (const button of $("visit").querySelectorAll("button"))
    button.setAttribute("aria-current", String(button.parentElement === entry.tile));
  drawPreview(entry);
  drawAnswers(entry);
  drawState(entry);
  show("results");
  reveal("results");
}

function drawState({ name, progress, failure }) {
  show("working", Boolean(progress));
  if (progress) {
    if ($("status").textContent !== progress.text) $("status").textContent = $("announcement").textContent = progress.text;
    if (progress.share === undefined) $("progress").removeAttribute("value");
    else $("progress").value = progress.share;
  }
  show("failure", Boolean(failure));
  if (!failure) return;
  $("error").textContent = `${name}: ${failure.error.message}`;
  show("again", !FINAL.has(failure.error.status));
}

function drawPreview(entry) {
  const properties = { src: entry.url, controls: true, muted: true, loop: true, playsInline: true, autoplay: !calm.matches };
  const media = entry.kind === "video" ? element("video", properties) : element("img", { src: entry.url, alt: "" });
  media.onerror = () => media.replaceWith(element("p", { className: "soft", textContent: "This browser cannot show it." }));
  const moved = () => follow(media.currentTime);
  const frame = () => {
    moved();
    if (media.isConnected && !media.paused) requestAnimationFrame(frame);
  };
  media.onplay = frame;
  media.onseeked = moved;
  $("preview").replaceChildren(media);
}

function drawAnswers(entry) {
  const { prediction, kind, isLong, about } = entry;
  $("about").textContent = about;
  show("classes", Boolean(prediction));
  if (prediction) {
    const seconds = prediction.duration_seconds;
    $("about").textContent = `${about} (${kind}${seconds ? `, ${clock(seconds)}` : ""})`;
    $("classes-title").textContent = isLong ? "The whole video" : "Classes";
    const cards = shownHeads().map((head) =>
      headCard(head, headIndex(head), prediction.heads[head], facts.sigmoid_heads.includes(head), (...asked) =>
        run(entry, () => explain(entry, ...asked)),
      ),
    );
    $("predictions").replaceChildren(...cards);
  }
  show("timeline-form", kind === "video");
  drawTimeline(entry);
  drawExplanation(entry);
}

function drawTimeline(entry) {
  const video = $("preview").querySelector("video");
  show("timeline", Boolean(entry.timeline));
  show("now", Boolean(entry.timeline));
  $("results").classList.toggle("timed", Boolean(entry.timeline));
  follow = () => {};
  if (!entry.timeline) return;
  const seek = (seconds) => {
    if (!video?.isConnected) return;
    video.currentTime = seconds;
    video.play();
  };
  const { nodes, table, followed } = timeline(entry.timeline, shownHeads(), headIndex, seek);
  $("segments").replaceChildren(...nodes);
  $("segment-table").replaceChildren(table);
  follow = (seconds) => {
    $("segments").style.setProperty("--at", `${(100 * seconds) / entry.timeline.duration_seconds}%`);
    $("now").replaceChildren(...[clock(seconds), ...followed(seconds)].map((text) => element("span", { textContent: text })));
  };
  follow(video?.currentTime ?? 0);
}

function drawExplanation({ explanation }) {
  show("explanation", Boolean(explanation));
  $("overlay").removeAttribute("src"); // a video that is not shown must not play on
  if (!explanation) return;
  $("explanation-title").textContent = `Why ${explanation.class}?`;
  $("explanation-text").textContent = `${explanation.head}: ${orders(explanation)}`;
  $("strip").src = `data:image/png;base64,${explanation.strip_png}`;
  show("overlay", Boolean(explanation.overlay_mp4));
  $("overlay").autoplay = !calm.matches;
  if (explanation.overlay_mp4) $("overlay").src = `data:video/mp4;base64,${explanation.overlay_mp4}`;
}

function announce({ name, prediction, isLong }) {
  const found = shownHeads().map((head) => `${head}: ${best(prediction, head)}`);
  $("announcement").textContent = `${name} is answered. ${found.join(", ")}.${isLong ? " Its timeline is ready." : ""}`;
}

function reveal(id) {
  $(id).scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: narrow.matches ? "start" : "nearest" });
}

// Samples, this visit and the heads.

function tile(media, title, text, onclick) {
  const texts = [element("span", {}, ...breakable(title)), element("span", { className: "soft", textContent: text })];
  return element("li", {}, element("button", { type: "button", onclick }, media, ...texts));
}

function sampleTile(sample) {
  const parts = sample.name.split("/");
  const [title, text] = [sample.class ?? parts.pop(), sample.dataset ?? parts.join("/")];
  return tile(element("img", { src: sample.thumbnail, alt: "" }), title, text, async () => {
    try {
      const blob = await (await get(`samples/${sample.number}`)).blob();
      const about = sample.dataset ? `${title}, a sample of ${sample.dataset}` : sample.name;
      add([{ blob, name: title, about, kind: sample.kind }]);
    } catch (error) {
      failed(error);
    }
  });
}

function visitTile(entry) {
  const video = { src: `${entry.url}#t=0.1`, muted: true, preload: "metadata", tabIndex: -1 };
  const media = entry.kind === "video" ? element("video", video) : element("img", { src: entry.url, alt: "" });
  return tile(media, entry.name, "", () => select(entry));
}

function drawTile({ tile, prediction, failure }, state) {
  const text = prediction ? best(prediction, shownHeads()[0]) : failure && "no answer";
  tile.querySelector(".soft").textContent = state ?? text;
}

const best = (prediction, head) => `${prediction.heads[head][0].class} ${percent(prediction.heads[head][0].probability)}`;
const headIndex = (head) => Object.keys(facts.heads).indexOf(head);
const shownHeads = () => [...$("heads").querySelectorAll(":checked")].map((box) => box.value);
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MiB`;

function headChip(head) {
  const box = element("input", { type: "checkbox", value: head, checked: true });
  box.onchange = () => {
    if (!shownHeads().length) box.checked = true; // at least one head is needed
    if (current) drawAnswers(current);
  };
  return element("label", {}, box, head);
}

// Dark or light: as the system has it, until you choose.

function drawTheme(theme) {
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (theme) document.documentElement.dataset.theme = theme;
  $("theme").textContent = isDark ? "Light colours" : "Dark colours";
  $("theme").onclick = () => {
    const other = isDark ? "light" : "dark";
    localStorage.setItem(THEME, other);
    drawTheme(other);
  };
}

function failed(error) {
  show("token-form", error.status === 401);
  show("failure");
  show("again", false);
  $("error").textContent = error.message;
}

async function begin() {
  facts = await (await get("heads")).json();
  const { run: name, checkpoint, heads, limits, window_seconds: seconds } = facts;
  show("failure", false);
  show("token-form", false);
  document.title = `${name} · cover`;
  $("run").textContent = `${name}, ${checkpoint}`;
  $("limits").textContent = `up to ${mebibytes(limits.max_bytes)}, ${limits.max_seconds} s, ${limits.max_pixels / 1e6} megapixels`;
  $("window").value = Math.max($("window").min, Math.min($("window").max, seconds));
  $("heads").replaceChildren(...Object.keys(heads).map(headChip));
  const samples = await (await get("samples")).json();
  $("samples").replaceChildren(...samples.map(sampleTile));
  show("samples-section", samples.length > 0);
}

const take = (files) => facts && add([...files].map((file) => ({ blob: file, name: file.name, about: file.name })));
$("file").onchange = (event) => {
  take(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
};
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files);
  });
$("timeline-button").onclick = () => {
  const parameters = { window_seconds: $("window").value };
  if ($("window").reportValidity()) run(current, (entry) => askTimeline(entry, parameters).then(() => reveal("timeline")));
};
$("again").onclick = () => run(current, current.failure.todo);
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  setToken($("token").value);
  begin().catch(failed);
};
drawTheme(localStorage.getItem(THEME));
begin().catch(failed);
