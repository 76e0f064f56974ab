// A model's page without reloads: answers come as fragments and replace the parts of the page
// that have the same data-slot. Without this script the same forms work by loading the page anew.
"use strict";
(() => {
  const slots = (root) => [...root.querySelectorAll("[data-slot]")];

  const swap = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const part of slots(fresh)) {
      const old = document.querySelector(`[data-slot="${part.dataset.slot}"]`);
      old?.replaceChildren(...part.childNodes);
    }
  };

  const markFields = (form) => {
    for (const field of form.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      document.getElementById(`${field.id}-problem`).hidden = true;
    }
    for (const item of document.querySelectorAll("[data-slot=summary] [data-field]")) {
      const field = document.getElementById(item.dataset.field);
      const problem = document.getElementById(`${field.id}-problem`);
      field.setAttribute("aria-invalid", "true");
      problem.textContent = item.dataset.problem;
      problem.hidden = false;
    }
  };

  const showWhatCame = () => {
    const summary = document.getElementById("summary");
    if (summary) {
      summary.focus();
      return;
    }
    const answer = document.querySelector("[data-slot=answer]");
    if (answer.getBoundingClientRect().bottom > innerHeight) {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      answer.parentElement.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
    }
  };

  const failed = (message) => {
    const box = document.createElement("div");
    box.className = "p-alert p-alert-bad";
    box.role = "alert";
    box.id = "summary";
    box.tabIndex = -1;
    box.textContent = message;
    document.querySelector("[data-slot=summary]").replaceChildren(box);
  };

  // A page instead of a fragment is an error page, from the app or from what stands before it.
  const sentenceOf = (html, status) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const said = page.querySelector(".p-lead") ?? page.querySelector("main p");
    return said?.textContent.trim() || `The server answered ${status}.`;
  };

  const body = (form) => {
    const data = new FormData(form);
    return form.enctype === "multipart/form-data" ? data : new URLSearchParams(data);
  };

  const send = async (form) => {
    const response = await fetch(form.action, {
      method: "POST",
      body: body(form),
      headers: { "Portico-Fragment": "1", Accept: "text/html" },
    });
    const text = await response.text();
    if (!text.includes("data-slot")) {
      throw new Error(sentenceOf(text, response.status));
    }
    return text;
  };

  const busy = (form, is) => {
    form.setAttribute("aria-busy", String(is));
    for (const button of form.querySelectorAll("button[type=submit]")) {
      // Not disabled: a disabled button loses the keyboard focus.
      button.setAttribute("aria-disabled", String(is));
    }
  };

  const ask = async (form) => {
    if (form.getAttribute("aria-busy") === "true") return;
    busy(form, true);
    try {
      swap(await send(form));
    } catch (error) {
      failed(error instanceof TypeError ? "The server cannot be reached. Try again." : error.message);
    } finally {
      busy(form, false);
    }
    markFields(form);
    showWhatCame();
  };

  for (const form of document.querySelectorAll("form[data-live]")) {
    form.noValidate = true; // The server says the same, beside each field.
    form.addEventListener("submit", (event) => {
      if (event.submitter?.name) return; // A download is no fragment.
      event.preventDefault();
      ask(form);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        form.requestSubmit(form.querySelector("button[type=submit]"));
      }
    });
  }

  const drop = document.querySelector("[data-drop]");
  if (!drop) return;
  const input = drop.querySelector("input[type=file]");
  const preview = drop.querySelector("img");
  const choose = (files) => {
    const picture = [...files].find((file) => file.type.startsWith("image/"));
    if (!picture) return;
    const chosen = new DataTransfer();
    chosen.items.add(picture);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  input.addEventListener("change", () => {
    URL.revokeObjectURL(preview.src);
    const [file] = input.files;
    preview.hidden = !file;
    if (file) preview.src = URL.createObjectURL(file);
  });
  preview.addEventListener("load", () => {
    preview.classList.toggle("p-tiny", Math.max(preview.naturalWidth, preview.naturalHeight) < 64);
  });
  preview.addEventListener("error", () => {
    preview.hidden = true;
  });
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("p-drop-over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("p-drop-over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("p-drop-over");
    choose(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) choose(event.clipboardData.files);
  });
})();
