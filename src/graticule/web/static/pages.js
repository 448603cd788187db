// Pages work without this. It follows a running job without reloading its page, counts on what is told in seconds, and
// copies text.

const SOON_MS = 700;
const SLOW_MS = 3000;

/** Of the log in sight; while somebody reads further up nothing is cut off above, up to the larger number. */
const LOG_CHARACTERS = 1 << 16;
const MOST_CHARACTERS = 1 << 19;
/** Pixels from the end of the log within which a reader counts as being there. */
const NEAR_END = 8;

/** Show what the server tells of a running job as it comes, until it has ended. */
function listen() {
  const place = document.querySelector("[data-follow]");
  if (!place) return;
  const source = new EventSource(`${place.dataset.follow}?offset=${place.dataset.offset}`);
  // How many jobs are before it is no event.
  const queued = place.dataset.status === "accepted" ? setInterval(refreshPlace, SLOW_MS) : 0;
  const stop = () => {
    source.close();
    clearInterval(queued);
    document.removeEventListener("visibilitychange", hide);
  };
  const hide = () => {
    stop(); // a browser has few connections, and nobody looks
    document.addEventListener("visibilitychange", listen, { once: true });
  };
  const look = async () => {
    stop();
    await refresh();
    // What was selected or is being answered was left alone: the page still shows the state before.
    if (place.isConnected) follow(Date.now());
    else listen();
  };
  document.addEventListener("visibilitychange", hide, { once: true });
  source.addEventListener("status", (event) => JSON.parse(event.data).status !== place.dataset.status && look());
  source.addEventListener("progress", (event) => showProgress(JSON.parse(event.data)));
  source.addEventListener("log", (event) => {
    place.dataset.offset = event.lastEventId.split("/")[1];
    const { offset, text } = JSON.parse(event.data);
    if (offset === 0) document.querySelector("#log")?.replaceChildren(); // of another attempt than what was shown
    if (!showLog(text)) look();
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return; // it comes again by itself
    stop();
    follow(Date.now());
  });
}

function showProgress({ progress, message, updated }) {
  const bar = document.querySelector("#progress");
  if (!bar) return;
  bar.value = progress;
  for (const place of ["label[for=progress]", "#now-progress"]) write(document.querySelector(place), `${progress} %`);
  for (const place of message ? [".lede", "#now-message"] : []) write(document.querySelector(place), message);
  document.querySelector("#now-updated time").dateTime = updated;
  const quarter = Math.floor(progress / 25);
  if (quarter > Number(bar.dataset.told ?? 0)) tell(`${progress} %`);
  bar.dataset.told = quarter;
}

/** Tell whoever listens to the page. */
function tell(text) {
  document.querySelector("#told").textContent = text;
}

/** Add to the log that is shown, which follows its end unless somebody has scrolled up; false if none is shown yet. */
function showLog(text) {
  const log = document.querySelector("#log");
  if (!log) return false;
  const [box, button] = [log.parentElement, document.querySelector("#follow")];
  const [follows, above] = [isAtEnd(box), box.scrollHeight];
  log.textContent = (log.textContent + text).slice(-(follows ? LOG_CHARACTERS : MOST_CHARACTERS));
  // It begins at its end, so places are counted from there.
  box.scrollTop = follows ? 0 : box.scrollTop - (box.scrollHeight - above);
  if (!follows) {
    const lines = Number(button.dataset.lines ?? 0) + text.split("\n").length - 1;
    button.dataset.lines = lines;
    button.textContent = `Follow again (${lines} new)`;
    button.hidden = false;
  }
  return true;
}

function isAtEnd(box) {
  return box.scrollTop > -NEAR_END;
}

document.addEventListener(
  "scroll",
  ({ target }) => {
    const button = document.querySelector("#follow");
    if (!button || !target.contains?.(document.querySelector("#log")) || !isAtEnd(target)) return;
    if (document.activeElement === button) target.focus({ preventScroll: true });
    button.hidden = true;
    button.dataset.lines = 0;
  },
  true,
);

document.addEventListener("click", ({ target }) => {
  if (target.id === "follow") document.querySelector("#log").parentElement.scrollTop = 0;
});

/** Look where in the queue the job stands, and show just that. */
async function refreshPlace() {
  const page = await fetchPage().catch(() => null);
  for (const part of ["#place", ".lede"]) {
    const [now, next] = [document.querySelector(part), page?.querySelector(part)];
    if (now && next && now.innerHTML !== next.innerHTML) now.replaceChildren(...next.childNodes);
  }
}

/** Look at the page of the job now and then, where events do not come through. */
async function follow(began) {
  await new Promise((resolve) => setTimeout(resolve, Date.now() - began < 15000 ? SOON_MS : SLOW_MS));
  await refresh();
  if (document.querySelector("[data-follow]")) follow(began);
}

/** Fetch the page of the job again, once somebody looks at it, and put its main part in place. */
async function refresh() {
  if (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
  try {
    replace(await fetchPage());
  } catch {
    // The connection is lost; the next round tries again.
  }
}

async function fetchPage() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  page.querySelectorAll("noscript").forEach((part) => part.remove()); // the parser takes what is in them for content
  return page;
}

const CONTROLS = "a, button, summary, [tabindex]";

/** Take over what has changed, but leave alone a question that somebody is about to answer and text that is selected. */
function replace(page) {
  const asking = document.querySelector("details.confirm[open]");
  for (const place of asking ? ["#live"] : [".head", "#live"]) {
    const [now, next] = [document.querySelector(place), page.querySelector(place)];
    if (now && next && now.innerHTML !== next.innerHTML && !isSelected(now)) exchange(now, next);
    else if (now && !next) location.reload();
  }
  if (document.title !== page.title) tell(page.title);
  document.title = page.title;
}

function isSelected(place) {
  const selection = getSelection();
  return !selection.isCollapsed && place.contains(selection.anchorNode);
}

/** Put `next` in the place of `now`; the keyboard and what was scrolled stay where they are. */
function exchange(now, next) {
  const focused = [...now.querySelectorAll(CONTROLS)].indexOf(document.activeElement);
  const scrolled = [...now.querySelectorAll(".scroll")].map((part) => part.scrollTop);
  now.replaceWith(next);
  next.querySelectorAll(".scroll").forEach((part, index) => (part.scrollTop = scrolled[index] ?? 0));
  next.querySelectorAll(CONTROLS)[focused]?.focus({ preventScroll: true });
}

/** Copy the text beside a button, and say so on it for a moment. */
async function copy(button) {
  const text = button.closest(".copyable").querySelector("pre, code");
  const label = button.querySelector("span");
  label.textContent = (await isCopied(text)) ? "Copied" : "Selected: copy it";
  setTimeout(() => (label.textContent = "Copy"), 2000);
}

async function isCopied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // Browsers have no clipboard for pages over plain HTTP, nor where it is forbidden.
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copy(button);
});

// --- what is told in seconds -----------------------------------------------------------------------------------------

/** The server's clock, whatever the one of this machine says. */
const ahead = Date.parse(document.body.dataset.now) - Date.now();
const since = (text) => Math.max(0, (Date.now() + ahead - Date.parse(text)) / 1000);

function ago(seconds) {
  for (const [size, word] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${word} ago`;
  }
  return seconds < 5 ? "just now" : `${Math.floor(seconds)} s ago`;
}

function lasted(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function write(part, text) {
  if (part.textContent !== text) part.textContent = text;
}

function count() {
  if (document.hidden) return;
  document.querySelectorAll("time.ago").forEach((part) => write(part, ago(since(part.dateTime))));
  document.querySelectorAll("[data-since]").forEach((part) => write(part, lasted(since(part.dataset.since))));
}

setInterval(count, 1000);
listen();
