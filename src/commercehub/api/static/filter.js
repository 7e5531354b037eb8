"use strict";
// Everything on the page is there without this: it finds an operation, and opens the one that the address names.
(() => {
  const field = document.getElementById("filter");
  if (field) {
    const parts = [...document.querySelectorAll("section")].map((section) => ({
      section,
      entries: [...section.querySelectorAll("details")].map((entry) => ({
        entry,
        text: entry.querySelector("summary").textContent.toLowerCase(),
      })),
    }));
    field.hidden = false;
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const { section, entries } of parts) {
        let found = false;
        for (const { entry, text } of entries) {
          const fits = words.every((word) => text.includes(word));
          entry.hidden = !fits;
          found ||= fits;
        }
        section.hidden = !found;
      }
    });
  }
  const open = () => {
    const named = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named instanceof HTMLDetailsElement) {
      named.open = true;
      named.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
})();
