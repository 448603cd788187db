// Pages work without this. It follows a running job without reloading its page.

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
    replace(page);
  } catch {
    // The connection is lost; the next round tries again.
  }
  if (document.querySelector("[data-follow]")) follow(began);
}

/** Take over what has changed, but leave a question alone that somebody is about to answer. */
function replace(page) {
  const asking = document.querySelector("details.confirm[open]");
  for (const place of asking ? ["#live"] : [".head", "#live"]) {
    const [now, next] = [document.querySelector(place), page.querySelector(place)];
    if (now && next && now.innerHTML !== next.innerHTML) now.replaceWith(next);
    else if (now && !next) location.reload();
  }
  document.title = page.title;
}

if (document.querySelector("[data-follow]")) follow(Date.now());
