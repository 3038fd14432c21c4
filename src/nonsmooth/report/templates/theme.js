// Before anything is painted: the theme that the reader chose earlier, else the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("nonsmooth-theme"); } catch { /* storage is switched off */ }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : dark ? "dark" : "light";
})();
