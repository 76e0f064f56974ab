// Draws the API's description with Swagger UI, in the theme of the page around it.
"use strict";

const root = document.documentElement;
const followTheme = () => root.classList.toggle("dark-mode", root.dataset.bsTheme === "dark");
followTheme();
new MutationObserver(followTheme).observe(root, { attributeFilter: ["data-bs-theme"] });

const place = document.getElementById("swagger");
window.SwaggerUIBundle({
  url: place.dataset.url,
  domNode: place,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  tryItOutEnabled: true,
  validatorUrl: null,
});
