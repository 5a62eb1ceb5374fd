// The reader's theme, set before the first paint: a classic script in <head>, or a forced theme would flash.
(function () {
  const chosen = localStorage.getItem("vedette.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
