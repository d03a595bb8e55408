// Fetches again, every few seconds, the part of a page that is marked as live; stops when that says so, and tells when the
// trainer does not answer.
"use strict";

const EVERY_MS = 3000;
const DEADLINE_MS = 10000;
const banner = document.getElementById("lost");
let lostSince = null;

function answered() {
  lostSince = null;
  banner.hidden = true;
}

function lost(why) {
  lostSince ??= new Date();
  banner.textContent =
    `No answer from the trainer since ${lostSince.toLocaleTimeString()} (${why}). ` +
    "The page shows what was known then, and goes on asking.";
  banner.hidden = false;
}

// What was chosen, and where the focus was, stays so.
function replace(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  for (const chosen of old.querySelectorAll("input:checked")) {
    const same = fresh.querySelector(`#${CSS.escape(chosen.id)}`);
    if (same) same.checked = true;
  }
  old.replaceWith(fresh);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh(part) {
  const answer = await fetch(part.dataset.live, { signal: AbortSignal.timeout(DEADLINE_MS) });
  if (!answer.ok) throw new Error(`it says ${answer.status}`);
  const holder = document.createElement("template");
  holder.innerHTML = await answer.text();
  const fresh = holder.content.firstElementChild;
  replace(part, fresh);
  return fresh;
}

async function follow() {
  const part = document.querySelector("[data-live][data-goes-on='true']");
  if (!part) return;
  if (!document.hidden) {
    try {
      const fresh = await refresh(part);
      answered();
      // What stands outside the live part is written at the end.
      if (fresh.dataset.goesOn === "false") return location.reload();
    } catch (error) {
      lost(error.message);
    }
  }
  setTimeout(follow, EVERY_MS);
}

setTimeout(follow, EVERY_MS);
