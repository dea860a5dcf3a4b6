// Light, dark, or as the system is: kept where the page has a store.
import { byId } from "./dom.js";

const KEY = "barnum-theme";

// a page from a file may have no store
function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // see above
  }
}

function setTheme(name) {
  if (name === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", name);
  byId("theme").value = name;
}

export function setUpTheme() {
  byId("theme").addEventListener("change", (event) => {
    setTheme(event.target.value);
    keep(event.target.value);
  });
  const name = kept();
  setTheme(["light", "dark"].includes(name) ? name : "auto");
}
