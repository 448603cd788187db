// The list of jobs works without this. It keeps the rows as the server has them, and says what is new.

const SLOWEST_MS = 30000;
/** Jobs that a round asks for one by one. */
const STRAYS = 5;
const PATIENCE_MS = 20000;
const OPEN = ["created", "accepted", "running"];

const form = document.querySelector("#chosen");
const news = document.querySelector("#news");
const rows = () => [...document.querySelectorAll("tr[data-job]")];
const ids = rows().map((row) => row.dataset.job);
/** A long list is more work for everybody, so it is looked at less often. */
const LOOK_MS = Math.max(2500, 20 * ids.length);
/** Identifiers begin with the time; what is older comes up from the next page and is no news. */
const oldest = ids.at(-1) ?? "";

let tag = "";
let listed = new Set(ids);
let lowest = oldest;
/** Whether a row was left as it was since somebody uses it: it is looked at again even if the list stays the same. */
let leftAlone = false;
let failures = 0;
let looking = Promise.resolve();

/** Look again and again, as long as somebody sees the page. */
async function watch() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(LOOK_MS * 2 ** failures, SLOWEST_MS)));
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
    await look();
  }
}

/** One look at a time: an answer that comes late must not undo a newer one. */
function look() {
  looking = looking.then(lookNow);
  return looking;
}

async function lookNow() {
  try {
    const headers = { accept: "text/html", ...(tag && { "if-none-match": tag }) };
    const answer = await get(location.pathname + location.search, headers);
    if (!answer.ok && answer.status !== 304) throw new Error(`status ${answer.status}`);
    if (failures) announce("");
    failures = 0;
    if (answer.ok) {
      leftAlone = false;
      takeOver(await answer.text());
      tag = leftAlone ? "" : answer.headers.get("etag");
    }
    await askForStrays();
  } catch {
    failures += 1;
    tag = ""; // so that what is announced is announced again
    announce("The server does not answer; this page keeps trying.");
  }
}

function get(address, headers) {
  return fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
}

/** Put the rows of a list that was fetched into the one in sight; what is new is announced, so that nothing moves. */
function takeOver(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const fetched = [...page.querySelectorAll("tr[data-job]")];
  const shown = new Map(rows().map((row) => [row.dataset.job, row]));
  listed = new Set(fetched.map((row) => row.dataset.job));
  lowest = fetched.at(-1)?.dataset.job ?? "";
  const changes = fetched.map((row) => shown.has(row.dataset.job) && put(shown.get(row.dataset.job), row));
  tell(changes.filter(Boolean));
  const fresh = fetched.filter((row) => !shown.has(row.dataset.job) && row.dataset.job > oldest).length;
  if (fresh) announceNew(fresh, fresh === fetched.length && page.querySelector("[rel=next]"));
}

/** Replace a row by its newer state, unless somebody is about to answer its question; return what is to be told. */
function put(now, next) {
  if (now.dataset.state === next.dataset.state) return "";
  if (now.querySelector(":popover-open") || isSelected(now)) {
    leftAlone = true;
    return "";
  }
  const controls = "a, button, input";
  const focused = [...now.querySelectorAll(controls)].indexOf(document.activeElement);
  next.querySelector("input[name=job]").checked = now.querySelector("input[name=job]").checked;
  now.replaceWith(next);
  if (focused >= 0) [...next.querySelectorAll(controls)].at(focused)?.focus({ preventScroll: true });
  return now.dataset.status === next.dataset.status ? "" : `${next.dataset.name} is ${next.dataset.status}`;
}

function isSelected(row) {
  const selection = getSelection();
  return !selection.isCollapsed && row.contains(selection.anchorNode);
}

/** Ask for jobs that are in sight but not in the list any more: newer ones have pushed them off, or the filter has. */
async function askForStrays() {
  const strays = rows().filter(({ dataset, classList }) => {
    if (listed.has(dataset.job) || classList.contains("gone") || dataset.settled) return false;
    return OPEN.includes(dataset.status) || dataset.job > lowest;
  });
  strays.sort((one, other) => (one.dataset.asked ?? 0) - (other.dataset.asked ?? 0));
  const told = await Promise.all(strays.slice(0, STRAYS).map(ask));
  tell(told.filter(Boolean));
}

async function ask(row) {
  const { job, name } = row.dataset;
  row.dataset.asked = Date.now();
  const answer = await get(form.action.replace(/form$/, `${job}/row`), { accept: "text/html" });
  if (answer.status === 204) {
    markGone(row);
    return `${name} was removed`;
  }
  if (!answer.ok) return "";
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("tr[data-job]");
  const change = put(row, next);
  for (const one of rows().filter((each) => each.dataset.job === job)) {
    one.dataset.asked = Date.now();
    if (!OPEN.includes(one.dataset.status)) one.dataset.settled = "yes";
  }
  return change;
}

/** Leave the row of a job that is no more where it is, without what could be done with it. */
function markGone(row) {
  row.classList.add("gone");
  row.querySelector(".status").textContent = "– removed";
  row.querySelector("input[name=job]").checked = false;
  row.querySelectorAll("input, button").forEach((control) => (control.disabled = true));
  row.querySelectorAll("a").forEach((link) => link.removeAttribute("href"));
  count();
}

// --- what is said ----------------------------------------------------------------------------------------------------

function announceNew(number, orMore) {
  const link = document.createElement("a");
  link.href = location.search || location.pathname;
  link.textContent = `${number}${orMore ? " or more" : ""} new ${number === 1 && !orMore ? "job" : "jobs"}: show`;
  if (news.textContent !== link.textContent) news.replaceChildren(link);
}

function announce(text) {
  news.textContent = text;
}

/** Tell whoever listens to the page what has changed on it. */
function tell(changes) {
  if (!changes.length) return;
  document.querySelector("#told").textContent =
    changes.length > 3 ? `${changes.length} jobs have changed` : changes.join("; ");
}

// --- what is chosen --------------------------------------------------------------------------------------------------

const boxes = () => [...document.querySelectorAll("tr[data-job] input[name=job][type=checkbox]:not(:disabled)")];

function count() {
  if (!form) return;
  const [every, chosen] = [boxes(), boxes().filter((box) => box.checked)];
  const all = document.querySelector("#all");
  all.checked = every.length > 0 && chosen.length === every.length;
  all.indeterminate = chosen.length > 0 && !all.checked;
  document.querySelector("#act").disabled = !chosen.length;
  document.querySelector("#count").textContent = chosen.length ? `${chosen.length} chosen` : "the chosen";
}

document.addEventListener("change", (event) => {
  if (event.target.id === "all") boxes().forEach((box) => (box.checked = event.target.checked));
  if (event.target.closest("#all, tr[data-job]")) count();
});

/** Dismiss and remove without leaving the page. */
document.addEventListener("submit", async (event) => {
  if (event.target.method !== "post" || event.target.action !== form?.action) return;
  event.preventDefault();
  const fields = new URLSearchParams(new FormData(event.target, event.submitter));
  const ended = fields.getAll("job");
  (event.target.closest("[popover]") ?? event.target.querySelector("[popover]")).hidePopover();
  try {
    const answer = await fetch(event.target.action, { method: "POST", body: fields });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    boxes().forEach((box) => (box.checked = box.checked && !ended.includes(box.value)));
    await look();
  } catch {
    announce("That did not work; nothing more was done. Load the page again to see what is.");
  }
  count();
});

count();
watch();
