// Keeps the page up to date: fetches its changing part and changes only what differs, so that
// nothing flickers and focus, scrolling and selection stay. Without it, reload the page.
"use strict";
(() => {
  const live = document.getElementById("live");
  const status = document.querySelector("[data-live-status]");
  const toggle = document.querySelector("[data-live-toggle]");
  if (!live) return;
  let paused = false;

  const copyAttributes = (from, to) => {
    for (const { name } of [...to.attributes]) {
      if (!from.hasAttribute(name)) to.removeAttribute(name);
    }
    for (const { name, value } of from.attributes) {
      if (to.getAttribute(name) !== value) to.setAttribute(name, value);
    }
  };
  const morph = (to, from) => {
    if (to.nodeType !== from.nodeType || to.nodeName !== from.nodeName) {
      to.replaceWith(from);
    } else if (to.nodeType === Node.ELEMENT_NODE) {
      copyAttributes(from, to);
      morphChildren(to, from);
    } else if (to.nodeValue !== from.nodeValue) {
      to.nodeValue = from.nodeValue;
    }
  };
  const morphChildren = (to, from) => {
    const wanted = [...from.childNodes];
    const present = [...to.childNodes];
    wanted.forEach((node, index) => {
      if (index < present.length) morph(present[index], node);
      else to.append(node);
    });
    present.slice(wanted.length).forEach((node) => node.remove());
  };
  const say = (text) => {
    // Said only when it changes, or a screen reader would repeat it every few seconds.
    if (status.textContent !== text) status.textContent = text;
  };

  const update = async () => {
    const answer = await fetch(live.dataset.part, { headers: { Accept: "text/html" } });
    if (answer.redirected || answer.status === 401 || answer.status === 403) {
      location.reload(); // The session is over; the log-in leads back here.
      return;
    }
    if (!answer.ok) throw new Error(answer.statusText);
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (paused) return; // While the answer was on its way.
    morphChildren(live, part.getElementById("live"));
    say("Updated every few seconds.");
  };
  const goOn = async () => {
    if (!paused && !document.hidden) {
      await update().catch(() => say("The gateway does not answer; what you see is old."));
    }
    setTimeout(goOn, live.dataset.every * 1000);
  };
  toggle.addEventListener("click", () => {
    paused = !paused;
    toggle.textContent = paused ? "Go on" : "Pause";
    say(paused ? "Updates are paused." : "Updated every few seconds.");
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused) update().catch(() => {});
  });
  setTimeout(goOn, live.dataset.every * 1000);
})();
