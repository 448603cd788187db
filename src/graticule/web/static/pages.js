// Pages work without this. It follows a running job without reloading its page, and copies text.

const SOON_MS = 700;
const SLOW_MS = 3000;

/** Fetch the page of the job again and put its main part in place, until the job has ended. */
async function follow(began) {
  const wait = Date.now() - began < 15000 ? SOON_MS : SLOW_MS;
  await new Promise((resolve) => setTimeout(resolve, wait));
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
  if (document.querySelector("[data-follow]")) follow(began);
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

if (document.querySelector("[data-follow]")) follow(Date.now());
