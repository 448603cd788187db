// Pages work without this. It follows a running job without reloading its page, and copies text.

const SOON_MS = 700;
const SLOW_MS = 3000;

const LOG_CHARACTERS = 1 << 16;

/** Show what the server tells of a running job as it comes, until it has ended. */
function listen() {
  const place = document.querySelector("[data-follow]");
  if (!place) return;
  const source = new EventSource(`${place.dataset.follow}?offset=${place.dataset.offset}`);
  const stop = () => {
    source.close();
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
    if (!showLog(JSON.parse(event.data).text)) look();
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return; // it comes again by itself
    stop();
    follow(Date.now());
  });
}

function showProgress({ progress, message }) {
  const bar = document.querySelector("#progress");
  if (!bar) return;
  bar.value = progress;
  document.querySelector("label[for=progress]").textContent = `${progress} %`;
  if (message) document.querySelector(".lede").textContent = message;
}

/** Add to the log that is shown; false if none is shown yet. */
function showLog(text) {
  const log = document.querySelector("#log");
  if (log) log.textContent = (log.textContent + text).slice(-LOG_CHARACTERS);
  return Boolean(log);
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
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    page.querySelectorAll("noscript").forEach((part) => part.remove()); // the parser takes what is in them for content
    replace(page);
  } catch {
    // The connection is lost; the next round tries again.
  }
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

listen();
