// Conveniences only: every page works without.
const every = document.getElementById("every");
if (every) every.addEventListener("change", () => {
  for (const box of document.querySelectorAll("input[name=product]")) box.checked = every.checked;
});
const change = document.getElementById("change");
if (change) change.addEventListener("input", () => {
  document.getElementById("shown").value = (change.value > 0 ? "+" : "") + change.value + " %";
});
