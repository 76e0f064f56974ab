// Sets the theme before the page is drawn, so that it does not flash. Loaded in <head>, not deferred.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try {
      return localStorage.getItem("portico-theme");
    } catch {
      return null; // Storage may be forbidden; then the system's choice holds.
    }
  };
  const apply = () => {
    root.dataset.bsTheme = remembered() ?? (dark.matches ? "dark" : "light");
  };
  apply();
  dark.addEventListener("change", apply);
  root.classList.add("p-js");
})();
