// What scrolls is reached by keyboard, and the buttons of each block of code are told apart.
new MutationObserver(() => {
  document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])").forEach((table) => { table.tabIndex = 0; });
  document.querySelectorAll(".md-code__nav").forEach((buttons, place) => {
    buttons.setAttribute("aria-label", `Code ${place + 1}`);
  });
}).observe(document.documentElement, {childList: true, subtree: true});
