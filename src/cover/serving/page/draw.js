// Answers as elements. All text goes in as text, never as markup.

const COLORS = ["#1c7ed6", "#e8590c", "#2f9e44", "#9c36b5", "#c2255c", "#0c8599", "#f08c00", "#5c940d"];
const MAX_LANES = 8; // classes of a head in the timeline: those that are seen longest
const MIN_LABELLED = 0.12; // share of the timeline from which a bar has room for its percentage
const ROUND_SECONDS = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A name that may break into lines after its underscores
export const breakable = (name) => name.split(/(?<=[_./-])/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));

export const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`;
const width = (share) => `${100 * share}%`; // for CSS, which wants no space

// 0:07.5, as players show times
export function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

const colored = (node, index) => {
  node.style.setProperty("--color", COLORS[index % COLORS.length]);
  return node;
};

// A head's classes as bars, with a button each that asks why.
export function headCard(head, index, classes, isSigmoid, why) {
  const bars = classes.map((scored) => {
    const button = element("button", { type: "button", textContent: "Why?", onclick: () => why(head, scored.class) });
    button.setAttribute("aria-label", `Why ${scored.class}?`);
    const fill = element("div");
    fill.style.width = width(scored.probability);
    const track = element("div", { className: "track", ariaHidden: "true" }, fill);
    const name = element("span", { className: "name" }, ...breakable(scored.class));
    const value = element("span", { className: "percent", textContent: percent(scored.probability) });
    return element("li", { className: "bar" }, name, value, button, track);
  });
  const note = isSigmoid ? [element("p", { className: "soft", textContent: "Each class has a probability of its own." })] : [];
  return colored(element("article", { className: "card" }, element("h3", { textContent: head }), ...note, element("ol", {}, ...bars)), index);
}

// The timeline of the heads that are shown: elements, and a function that moves them to a time of the video.
export function timeline({ duration_seconds: duration, heads }, shown, indexOf, seek) {
  const bars = [];
  const nodes = shown.map((head) => headLanes(head, indexOf(head), heads[head], duration, seek, bars));
  const followed = (seconds) => {
    const current = bars.filter(({ segment, node }) => {
      const isNow = segment.start_seconds <= seconds && seconds < segment.end_seconds;
      node.classList.toggle("now", isNow);
      return isNow;
    });
    return current.map(({ segment, head }) => `${shown.length > 1 ? `${head}: ` : ""}${segment.class} ${percent(segment.probability)}`);
  };
  return { nodes: [...nodes, axis(duration)], table: segmentTable(heads, shown, seek), followed };
}

function headLanes(head, index, segments, duration, seek, bars) {
  const weights = new Map();
  for (const { class: name, start_seconds: start, end_seconds: end, probability } of segments)
    weights.set(name, (weights.get(name) ?? 0) + probability * (end - start));
  const names = [...weights.keys()].sort((a, b) => weights.get(b) - weights.get(a)).slice(0, MAX_LANES);
  const lanes = names.map((name) => {
    const times = element("div", { className: "times" });
    for (const segment of segments.filter((each) => each.class === name)) {
      const node = segmentBar(segment, duration, seek);
      bars.push({ head, segment, node });
      times.append(node);
    }
    times.onclick = ({ target, clientX }) => {
      const box = times.getBoundingClientRect();
      if (target === times) seek((duration * (clientX - box.left)) / box.width);
    };
    return element("div", { className: "lane" }, element("span", { className: "name" }, ...breakable(name)), times);
  });
  return colored(element("div", { className: "lanes" }, element("h3", { textContent: head }), ...lanes), index);
}

function segmentBar(segment, duration, seek) {
  const { class: name, start_seconds: start, end_seconds: end, probability } = segment;
  const share = (end - start) / duration;
  const text = `${name} ${percent(probability)}, ${clock(start)} to ${clock(end)}`;
  const bar = element("button", { type: "button", title: text, onclick: () => seek(start) });
  bar.setAttribute("aria-label", text);
  if (share >= MIN_LABELLED) bar.append(percent(probability));
  bar.style.left = width(start / duration);
  bar.style.width = width(share);
  bar.style.setProperty("--strength", width(0.15 + 0.45 * probability));
  return bar;
}

function axis(duration) {
  const step = ROUND_SECONDS.find((each) => duration <= 6 * each) ?? duration / 6;
  const marks = [];
  for (let time = 0; time <= duration; time += step) {
    const mark = element("span", { textContent: clock(time).replace(/\.0$/, "") });
    mark.style.left = width(time / duration);
    marks.push(mark);
  }
  return element("div", { className: "axis", ariaHidden: "true" }, ...marks);
}

function segmentTable(heads, shown, seek) {
  const found = shown.flatMap((head) => heads[head].map((segment) => ({ head, ...segment })));
  found.sort((a, b) => a.start_seconds - b.start_seconds);
  const rows = found.map(({ head, class: name, probability, start_seconds: start, end_seconds: end }) => {
    const time = element("button", { type: "button", textContent: `${clock(start)} – ${clock(end)}`, onclick: () => seek(start) });
    const seen = element("td", {}, ...breakable(name), ...(shown.length > 1 ? [element("small", { textContent: head })] : []));
    return element("tr", {}, element("td", {}, time), seen, element("td", { textContent: percent(probability) }));
  });
  const header = element("tr", {}, ...["Time", "Class", "Probability"].map((text) => element("th", { scope: "col", textContent: text })));
  return element("table", {}, element("thead", {}, header), element("tbody", {}, ...rows));
}

// What changes if the order of the frames does.
export function orders({ class: name, head, probability, predicted, backwards, frozen }) {
  const parts = [`${percent(probability)} in the centre view`];
  if (predicted !== name) parts.push(`the most probable class of ${head} is ${predicted}`);
  if (backwards) parts.push(`${percent(backwards.probability)} if played backwards`);
  if (frozen) parts.push(`${percent(frozen.probability)} if frozen at its strongest frame`);
  return `${parts.join("; ")}.`;
}
