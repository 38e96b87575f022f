// The server's own page: what it serves, how it is doing, and a box to try it.
"use strict";

const PERIOD = 1000; // milliseconds between two looks at the figures

const at = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const megabytes = (bytes) => `${whole.format(bytes / 1e6)} MB`;
let key = "";

async function ask(path, fields) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const options = fields ? { method: "POST", headers, body: JSON.stringify(fields) } : { headers };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return { answer, headers: response.headers };
}

// ---- The model ----------------------------------------------------------------------------------

// What a model is for -> the labels of the box, what to send, and the answer as rows to show.
const TASKS = {
  similarity: {
    labels: ["Text", "Compare with, one a line"],
    ask: (text, others) =>
      ask("similarity", { inputs: { source_sentence: text, sentences: others } }),
    rows: (answer, others) => answer.map((score, index) => ({ score, text: others[index] })),
  },
  reranker: {
    labels: ["Query", "Documents, one a line"],
    ask: (query, texts) => ask("rerank", { query, texts, return_text: true }),
    rows: (answer) => answer,
  },
  classifier: {
    labels: ["Text", ""],
    ask: (inputs) => ask("predict", { inputs }),
    rows: (answer) => answer.map(({ score, label }) => ({ score, text: label })),
  },
  splade: {
    labels: ["Text", ""],
    ask: askForWords,
    rows: (answer) => answer,
  },
};
let task = null;

async function askForWords(inputs) {
  const { answer, headers } = await ask("embed_sparse", { inputs });
  const best = answer[0].sort((a, b) => b.value - a.value).slice(0, 10);
  if (!best.length) return { answer: [], headers };
  const words = await ask("decode", { ids: best.map((each) => [each.index]) });
  const rows = best.map((each, index) => ({ score: each.value, text: words.answer[index] }));
  return { answer: rows, headers };
}

function taskOf(type) {
  if (type.reranker) return TASKS.reranker;
  if (type.classifier) return TASKS.classifier;
  if (type.embedding.pooling === "splade") return TASKS.splade;
  return type.embedding.pooling === "none" ? null : TASKS.similarity;
}

async function showModel() {
  try {
    const { answer: info } = await ask("info");
    const [kind] = Object.keys(info.model_type);
    document.title = at("name").textContent = info.model_id;
    at("about").textContent =
      `${kind} model in ${info.model_dtype} on ${info.device} (${info.kernels}), texts up to ` +
      `${info.max_input_length} tokens, vlt ${info.version}`;
    task = taskOf(info.model_type);
    at("unlock").hidden = true;
    at("try").hidden = task === null;
    if (task === null) return;
    [at("text-label").textContent, at("others-label").textContent] = task.labels;
    at("others").hidden = at("others-label").hidden = !task.labels[1];
    at("others").required = Boolean(task.labels[1]);
  } catch (error) {
    at("about").textContent = error.status === 401 ? "This server asks for a key." : error.message;
    at("unlock").hidden = error.status !== 401;
  }
}

at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value;
  showModel();
});

// ---- The box ------------------------------------------------------------------------------------

function row({ score, text }) {
  const item = document.createElement("li");
  const number = document.createElement("b");
  const words = document.createElement("span");
  const bar = document.createElement("meter");
  number.textContent = score.toFixed(4);
  words.textContent = text;
  bar.value = Math.max(score, 0);
  item.append(number, words, bar);
  return item;
}

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("problem").textContent = at("took").textContent = "";
  const others = at("others").value.split("\n").filter((line) => line.trim());
  try {
    const { answer, headers } = await task.ask(at("text").value, others);
    at("results").replaceChildren(...task.rows(answer, others).map(row));
    at("took").textContent =
      `${headers.get("x-compute-tokens")} tokens in ${headers.get("x-compute-time")} ms`;
  } catch (error) {
    at("results").replaceChildren();
    at("problem").textContent = error.message;
  }
});

// ---- The figures --------------------------------------------------------------------------------

// The metrics' text -> name -> the sum over all labels.
function parse(text) {
  const figures = {};
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{.*\})? (\S+)$/.exec(line);
    if (match) figures[match[1]] = (figures[match[1]] ?? 0) + Number(match[2]);
  }
  return figures;
}

function rows(now, before, seconds) {
  const rate = (name) => whole.format(Math.max(0, now[name] - before[name]) / seconds);
  const all = now.vlt_tokens_total + now.vlt_padding_avoided_tokens_total;
  const saved = all ? (100 * now.vlt_padding_avoided_tokens_total) / all : 0;
  const rows = [
    ["Requests", whole.format(now.te_request_duration_count)],
    ["Requests a second", rate("te_request_duration_count")],
    ["Tokens a second", rate("vlt_tokens_total")],
    ["Inputs waiting", whole.format(now.te_queue_size)],
    ["Padding avoided", `${saved.toFixed(0)} %`],
    ["Memory", megabytes(now.process_resident_memory_bytes)],
  ];
  if ("vlt_cache_bytes" in now) {
    const asked = now.vlt_cache_hits_total + now.vlt_cache_misses_total;
    const hits = asked ? (100 * now.vlt_cache_hits_total) / asked : 0;
    rows.push(["From the cache", `${hits.toFixed(0)} %`]);
  }
  return rows;
}

function figure([name, value]) {
  const box = document.createElement("div");
  const term = document.createElement("dt");
  const number = document.createElement("dd");
  term.textContent = name;
  number.textContent = value;
  box.append(term, number);
  return box;
}

let last = null;
async function look() {
  try {
    const response = await fetch("metrics");
    const now = { at: performance.now(), figures: parse(await response.text()) };
    const before = last ?? now;
    const seconds = Math.max((now.at - before.at) / 1000, PERIOD / 1000);
    at("figures").replaceChildren(...rows(now.figures, before.figures, seconds).map(figure));
    last = now;
  } catch {
    at("about").textContent = "The server does not answer.";
  }
  setTimeout(look, PERIOD);
}

showModel();
look();
