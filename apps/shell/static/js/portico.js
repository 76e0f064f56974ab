// Behaviour that every page shares: the theme button and the copy buttons.
"use strict";
(() => {
  const root = document.documentElement;

  const button = document.querySelector("[data-theme-toggle]");
  const show = () => {
    button?.setAttribute("aria-pressed", String(root.dataset.bsTheme === "dark"));
  };
  new MutationObserver(show).observe(root, { attributeFilter: ["data-bs-theme"] });
  show();
  button?.addEventListener("click", () => {
    root.dataset.bsTheme = root.dataset.bsTheme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("portico-theme", root.dataset.bsTheme);
    } catch {
      // Not remembered, but it holds for this page.
    }
  });

  const selectText = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  // The clipboard API exists on https and localhost only; the old command works elsewhere.
  const copy = async (element) => {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(element.textContent);
      return true;
    }
    selectText(element);
    return document.execCommand("copy");
  };
  const say = (control, word) => {
    const before = control.dataset.label ?? control.textContent;
    control.dataset.label = before;
    control.textContent = word;
    setTimeout(() => {
      control.textContent = before;
    }, 1600);
  };
  document.addEventListener("click", async (event) => {
    const control = event.target.closest("[data-copy]");
    if (!control) return;
    const element = document.getElementById(control.dataset.copy);
    const done = await copy(element).catch(() => false);
    if (!done) selectText(element);
    say(control, done ? "Copied" : "Press Ctrl+C");
  });
})();
